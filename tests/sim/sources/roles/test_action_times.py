"""Times of what was done, in some rows only."""

from pathlib import Path

import pytest

from sim.errors import SimError
from tests.sim.sources.logs import START_S as T, log_of


@pytest.mark.parametrize(
    ("header", "missing", "named"),
    [
        ("impression_time,click_time", "", ["click_time"]),
        ("impression_time,click_time", "0", ["click_time"]),
        ("timestamp,like_timestamp,replyTimestamp", "", ["like_timestamp", "replyTimestamp"]),
        ("click_timestamp,conversion_timestamp", "", ["conversion_timestamp"]),
        ("sent_at,opened_at,clicked_at", "", ["opened_at", "clicked_at"]),
        ("added_at,removed_at", "0000-00-00 00:00:00", ["removed_at"]),
    ],
)
def test_times_that_most_rows_lack_are_asked_for(tmp_path: Path, header: str, missing: str, named: list[str]) -> None:
    """Instead of a click in each row; the time that is meant decides, and what is not read is said."""
    first, *others = header.split(",")
    rows = [(n, [str(T + n), *(str(T + n + 7) if n % 4 == 0 else missing for _ in others)]) for n in range(40)]
    content = f"user_id,ad_id,{header}\n" + "".join(f"u{n % 9},i{n % 7},{','.join(cells)}\n" for n, cells in rows)
    with pytest.raises(SimError) as error:
        log_of(tmp_path / "log.csv", content)
    assert all(f"Column {name!r} holds no time in 75% of the rows" in str(error.value) for name in named)
    log = log_of(tmp_path / "log.csv", content, time=first)
    assert log.summary.actions == {"click": 40}
    assert all(name in " ".join(log.remarks) for name in named)


@pytest.mark.parametrize(
    ("name", "cell", "missing"),
    [
        ("watch_time", "{0}", "0"),  # how long
        ("click_time", f"{T + 7}{{0:03}}", f"{T}000"),  # in each row
        ("updated_at", f"{T + 7}{{0:03}}", ""),  # nothing that was done
    ],
)
def test_other_times_are_not(tmp_path: Path, name: str, cell: str, missing: str) -> None:
    """Durations, those of all rows, and those of nothing that was done."""
    rows = "".join(f"u{n % 9},i{n % 7},{T + n},{cell.format(n) if n % 4 == 0 else missing}\n" for n in range(40))
    assert len(log_of(tmp_path / "log.csv", f"user_id,ad_id,ts,{name}\n{rows}")) == 40
