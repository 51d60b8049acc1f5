"""Recorded logs: every format gives the same events, and the fingerprint is of content and options."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from sim.sources.log_columns import LogSettings
from sim.sources.open_log import Items, read_log

ROWS = pl.DataFrame(
    {
        "user_id": ["1", "02", "1"],
        "item_id": ["a", "b", "a,c"],
        "ts": ["2024-01-01T00:00:02", "2024-01-01T00:00:01", "2024-01-01T00:00:03"],
    }
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same log in every format."""
    paths = {name: tmp_path / f"log{name}" for name in (".csv", ".tsv", ".parquet", ".csv.gz")}
    ROWS.write_csv(paths[".csv"])
    ROWS.write_csv(paths[".tsv"], separator="\t")
    ROWS.write_parquet(paths[".parquet"])
    paths[".csv.gz"].write_bytes(gzip.compress(paths[".csv"].read_bytes(), mtime=0))
    return paths


def test_every_format_gives_the_same_events(files: dict[str, Path]) -> None:
    """CSV, TSV, Parquet, and packed; ids with zeros in front stay as they are."""
    events = {name: list(read_log([str(path)], LogSettings()).events()) for name, path in files.items()}
    assert events[".csv"] == events[".tsv"] == events[".parquet"] == events[".csv.gz"]
    assert [event.key for event in events[".csv"]] == [b"02", b"1", b"1"]


def test_a_fingerprint_is_of_content_and_options(files: dict[str, Path], tmp_path: Path) -> None:
    """The same file under another name has it; another row or option changes it."""
    first = read_log([str(files[".csv"])], LogSettings()).fingerprint
    copy = tmp_path / "other.csv"
    copy.write_bytes(files[".csv"].read_bytes())
    assert read_log([str(copy)], LogSettings()).fingerprint == first
    assert read_log([str(copy)], LogSettings(limit=2)).fingerprint != first
    copy.write_bytes(files[".csv"].read_bytes() + b"3,d,2024-01-01\n")
    assert read_log([str(copy)], LogSettings()).fingerprint != first


def test_a_catalogue_has_the_time_of_the_first_event(files: dict[str, Path], tmp_path: Path) -> None:
    """And changes the fingerprint, but no event."""
    items = tmp_path / "items.csv"
    items.write_text("id,title\na,Alien\n")
    log, plain = (
        read_log([str(files[".csv"])], LogSettings(), Items(str(items))),
        read_log([str(files[".csv"])], LogSettings()),
    )
    assert [(key, json.loads(value)["ts"]) for key, value in log.catalogue] == [("a", 1_704_067_201_000)]
    assert list(log.events()) == list(plain.events())
    assert log.fingerprint != plain.fingerprint
