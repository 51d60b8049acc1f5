"""`--limit` takes the earliest rows, and reads no more of a log than they need."""

import gzip
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from sim.sources.open_log import open_log
from sim.sources.recorded_log import RecordedLog
from sim.sources.tables import table as tables
from tests.sim.sources.logs import START_S, triples
from tests.strategies import tries

USERS = 50


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are opened by 2 kB, some 100 rows, and read by 40 rows."""
    monkeypatch.setattr(tables, "HEAD_BYTES", 2000)
    monkeypatch.setattr(tables.Table.batches, "__defaults__", (40,))


def rows(times: list[int], each: int = 1) -> bytes:
    """Return a CSV of a row for each time, so many of a user one after another."""
    lines = (f"u{n // each % USERS},i{n},{START_S + second}\n" for n, second in enumerate(times))
    return ("user_id,item_id,ts\n" + "".join(lines)).encode()


def read(paths: list[Path], limit: int | None) -> RecordedLog:
    return open_log([str(path) for path in paths], {"limit": limit})


def test_a_log_in_order_is_read_no_further_than_the_earliest_need(tmp_path: Path) -> None:
    """Packed or not, of 20,000 rows a few hundred are opened, and it is said; what follows may be anything."""
    times = [n // 2 for n in range(20_000)]
    content = rows(times) + b"\xff\xff no row\n"
    for name, data in {"log.csv": content, "log.csv.gz": gzip.compress(content)}.items():
        (tmp_path / name).write_bytes(data)
        log = read([tmp_path / name], 90)
        assert [item for _, item, _ in triples(log)] == [f"i{n}" for n in range(90)]
        assert log.summary.read < 1000
        assert any("in the order of time" in said for said in log.remarks)


@pytest.mark.parametrize("order", ["shuffled", "by user"])
def test_of_a_log_in_another_order_the_earliest_of_all_are_taken(tmp_path: Path, order: str) -> None:
    """Rows sorted by user begin with one user's whole time; all are read, and that is said."""
    times = list(range(2000)) if order == "shuffled" else [n % 200 for n in range(2000)]
    if order == "shuffled":
        Random(1).shuffle(times)
    path = tmp_path / "log.csv"
    path.write_bytes(rows(times, each=1 if order == "shuffled" else 200))
    log = read([path], 30)
    assert sorted(ts for *_, ts in triples(log)) == sorted(START_S + second for second in sorted(times)[:30])
    assert log.summary.read == 2000
    assert any("in no order of time: --limit takes the 30 earliest of all 2,000" in said for said in log.remarks)


def test_each_of_several_files_is_looked_at(tmp_path: Path) -> None:
    """Two shards of one time, and a later day whose beginning is enough."""
    shards = [list(range(0, 4000, 2)), list(range(1, 4000, 2)), list(range(9000, 12_000))]
    paths = [tmp_path / f"{n}.csv" for n in range(3)]
    for path, times in zip(paths, shards, strict=True):
        path.write_bytes(rows(times))
    log = read(paths, 50)
    assert [ts for *_, ts in triples(log)] == [START_S + second for second in range(50)]
    assert log.summary.read < 1500


@settings(max_examples=tries(40), deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=400), st.integers(1, 200), st.integers(0, 30))
def test_the_earliest_are_those_of_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], limit: int, disorder: int
) -> None:
    """Rows out of order by no more than the log shows early on change nothing."""
    reached, times = disorder, list[int]()
    for n, gap in enumerate(gaps):
        reached += gap
        times.append(reached - (disorder if n % 7 == 3 else 0))
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(rows(times))
    expected = sorted(range(len(times)), key=lambda n: times[n])[:limit]
    assert sorted(item for _, item, _ in triples(read([path], limit))) == sorted(f"i{n}" for n in expected)


def test_the_fingerprint_is_of_what_was_read(tmp_path: Path) -> None:
    """A row that cannot matter does not change it, one among the earliest does."""
    path = tmp_path / "log.csv"
    found = []
    for content in (rows(list(range(9000))), rows([*range(9000), 9000]), rows([0, 0, *range(2, 9000)])):
        path.write_bytes(content)
        found.append(read([path], 20).fingerprint)
    assert found[0] == found[1] != found[2]
