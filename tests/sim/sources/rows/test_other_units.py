"""Times as numbers of minutes, hours or days: never read as seconds of 1970."""

from pathlib import Path

import pytest

from sim.errors import SimError
from tests.sim.sources.logs import START_S as T, log_of

UNITS = {"minutes": T // 60, "hours": T // 3600, "days": T // 86_400, "excel-days": T // 86_400 + 25_569}


def rows(first: int) -> str:
    return "user_id,item_id,ts\n" + "".join(f"u,i{n},{first + n}\n" for n in range(5))


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_that_is_not_guessed_is_asked_for(tmp_path: Path, unit: str) -> None:
    """The line that reads it does."""
    path = tmp_path / "log.csv"
    with pytest.raises(SimError, match=f"Column 'ts' of .*do not begin at 0; if they are .*--time-unit {unit},"):
        log_of(path, rows(UNITS[unit]))
    assert abs(log_of(path, rows(UNITS[unit]), time_unit=unit).first_ms - T * 1000) <= 86_400_000
    assert log_of(path, rows(UNITS[unit]), time_unit="s").first_ms == UNITS[unit] * 1000


@pytest.mark.parametrize("first", [0, 1, 9_000])
def test_a_log_that_counts_from_its_own_start_is_read(tmp_path: Path, first: int) -> None:
    """And it is said."""
    log = log_of(tmp_path / "log.csv", rows(first))
    assert log.first_ms == first * 1000
    assert any("as if counted from the log's own start" in said for said in log.remarks)
