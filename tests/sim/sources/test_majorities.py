"""One odd cell never decides what a column is: it is one bad row among rows that are read as before."""

from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from sim.sources.recorded_log import RecordedLog
from tests.sim.sources.logs import START_S as T, log_of, triples


def reasons(log: RecordedLog) -> dict[str, int]:
    """Return the bad rows that were left out, by reason."""
    return dict(log.summary.bad)


def test_one_item_without_a_label_leaves_the_clicks_of_all_slates(tmp_path: Path) -> None:
    """In a log of MIND: the slate is a bad row, the others keep a click each."""
    rows = [f"{n}\tU{n}\t11/15/2019 10:{n:02}:00 AM\tN9\tN{n}-1 N7-0" for n in range(40)]
    rows[7] = rows[7].replace("N7-0", "N7")
    content = "\n".join(rows) + "\n"
    with pytest.raises(SimError, match=r"Row 8 .*has items without -0 or -1 behind them"):
        log_of(tmp_path / "behaviors.tsv", content)
    log = log_of(tmp_path / "behaviors.tsv", content, skip_bad="1")
    assert log.summary.actions == {"click": 39}
    assert (log.summary.slates, log.summary.shown) == (39, 78)


@pytest.mark.parametrize("odd", ["2", "maybe", "-1", "NaN"])
@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("False", "True"), ("no", "yes")])
def test_one_odd_cell_leaves_labels_what_they_are(tmp_path: Path, odd: str, no: str, yes: str) -> None:
    """A 0 is no positive action because of it."""
    labels = [no, yes, no, odd, no, no]
    content = "user_id,item_id,ts,label\n" + "".join(f"u1,i{n},{T + n},{cell}\n" for n, cell in enumerate(labels))
    with pytest.raises(SimError, match=f"Row 4 .*'{odd}' in column 'label', which is no label, 0 or 1"):
        log_of(tmp_path / "log.csv", content, action="label")
    log = log_of(tmp_path / "log.csv", content, action="label", skip_bad="1")
    assert log.summary.actions == {"click": 1}
    assert log.summary.shown == 5


def test_numbers_that_are_codes_of_actions_are_no_labels(tmp_path: Path) -> None:
    """0 for a view, 1 for a cart, 2 for an order, 3 for a favourite."""
    content = "user_id,item_id,ts,kind\n" + "".join(f"u1,i{n},{T + n},{'00000123'[n % 8]}\n" for n in range(80))
    log = log_of(tmp_path / "log.csv", content, action="kind")
    assert log.summary.actions == {"0": 50, "1": 10, "2": 10, "3": 10}


@pytest.mark.parametrize(
    ("good", "odd", "seconds"),
    [
        ("20240131", "20240230", 1_706_659_200),
        ("20240131", "2024013", 1_706_659_200),
        ("20240131123000", "20240230123000", 1_706_704_200),
        (str(T), f"{T}000", T),
        ("11/25/2019 8:55:22 AM", "13/32/2019 8:55:22 AM", 1_574_672_122),
        ("2024-01-31", "2024-02-30", 1_706_659_200),
    ],
)
def test_one_odd_time_is_a_bad_row(tmp_path: Path, good: str, odd: str, seconds: int) -> None:
    """Whatever the others are, they are that; with columns named and with columns guessed."""
    for names in ("user_id,item_id,ts", "uid,product,when"):
        content = f"{names}\nu1,a,{good}\nu1,b,{odd}\nu2,c,{good}\nu3,d,{good}\n"
        time = names.rpartition(",")[2]
        with pytest.raises(SimError, match=f"Row 2 of .* has the time '{odd}' in column '{time}'"):
            log_of(tmp_path / "log.csv", content)
        log = log_of(tmp_path / "log.csv", content, skip_bad="1")
        assert triples(log) == [("u1", "a", seconds), ("u2", "c", seconds), ("u3", "d", seconds)]


def test_files_with_times_of_several_types_are_one_log(tmp_path: Path) -> None:
    """Integers, floats, instants and dates, each as it is; a time of the day is a bad row."""
    at = pl.Series([T + 2]).cast(pl.Int64) * 1000
    times = {
        "a": pl.Series([T]),
        "b": pl.Series([T + 1.0]),
        "c": at.cast(pl.Datetime("ms")),
        "d": pl.Series([19_700]).cast(pl.Date),
    }
    for name, ts in times.items():
        pl.DataFrame({"user_id": ["u"], "item_id": [name], "ts": ts}).write_parquet(tmp_path / f"{name}.parquet")
    log = open_log([str(tmp_path)], {})
    assert triples(log) == [("u", "a", T), ("u", "b", T + 1), ("u", "c", T + 2), ("u", "d", 19_700 * 86_400)]
    odd = pl.DataFrame({"user_id": ["u"], "item_id": ["e"], "ts": pl.Series([5]).cast(pl.Time)})
    odd.write_parquet(tmp_path / "e.parquet")
    assert reasons(open_log([str(tmp_path)], {"skip_bad": "1"})) == {"ts is no time that can be read": 1}
