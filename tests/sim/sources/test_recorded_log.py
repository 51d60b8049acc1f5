import gzip
import json
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.datasets import load_dataset
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import read_log

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
    paths[".csv.gz"].write_bytes(gzip.compress(paths[".csv"].read_bytes()))
    return paths


def test_every_format_gives_the_same_events(files: dict[str, Path]) -> None:
    """CSV, TSV, Parquet, and packed; ids with zeros in front stay as they are."""
    events = {name: list(read_log(path, LogSettings()).events()) for name, path in files.items()}
    assert events[".csv"] == events[".tsv"] == events[".parquet"] == events[".csv.gz"]
    assert [event.key for event in events[".csv"]] == [b"02", b"1", b"1"]


def test_a_fingerprint_is_of_content_and_options(files: dict[str, Path], tmp_path: Path) -> None:
    """The same file under another name has it; another row or option changes it."""
    first = read_log(files[".csv"], LogSettings()).fingerprint
    copy = tmp_path / "other.csv"
    copy.write_bytes(files[".csv"].read_bytes())
    assert read_log(copy, LogSettings()).fingerprint == first
    assert read_log(copy, LogSettings(limit=2)).fingerprint != first
    copy.write_bytes(files[".csv"].read_bytes() + b"3,d,2024-01-01\n")
    assert read_log(copy, LogSettings()).fingerprint != first


def test_a_catalogue_has_titles_and_features(files: dict[str, Path], tmp_path: Path) -> None:
    """At the time of the first event; parts between | are a list, an empty cell is nothing."""
    items = tmp_path / "items.csv"
    items.write_text("id,title,genres,year\na,Alien,Horror|Sci-Fi,1979\nb,,,\n")
    records = [(key, json.loads(value)) for key, value in read_log(files[".csv"], LogSettings(), items).catalogue]
    ts_ms = 1_704_067_201_000
    features = {"genres": ["Horror", "Sci-Fi"], "year": "1979"}
    assert records == [
        ("a", {"item_id": "a", "ts": ts_ms, "title": "Alien", "features": features}),
        ("b", {"item_id": "b", "ts": ts_ms}),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,year\nx,1\n", "none of the columns item_id, id, item for the item's id; its columns are name, year"),
        ("id\na\na\n", "gives the item 'a' more than once"),
        ("id\n\n", "has no rows|has no id"),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_refused(
    files: dict[str, Path], tmp_path: Path, content: str, sentence: str
) -> None:
    """In a sentence with the file's columns or the item."""
    items = tmp_path / "items.csv"
    items.write_text(content)
    with pytest.raises(SimError, match=sentence):
        read_log(files[".csv"], LogSettings(), items)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.txt", b"", r"ends in '.txt'; a log ends in .csv, .tsv \(both also with .gz\) or .parquet"),
        ("log.csv", None, "There is no file .*log.csv; check the path"),
        ("log.csv", b"", "cannot be read as .csv"),
        ("log.csv", b"user_id,item_id,ts\n", "has no rows; there is nothing to replay"),
        ("log.csv", b"user_id,item_id,ts\n1,2,3,4\n", "cannot be read as .csv"),
        ("log.parquet", b"no parquet", "cannot be read as .parquet"),
        ("log.csv", b"who,ts\n1,2\n", "has no column 'user_id'; its columns are who, ts"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    """In a sentence that names it and says why."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SimError, match=sentence):
        read_log(path, LogSettings())


def test_movielens_is_whole() -> None:
    """100,004 ratings by 671 users of 9,066 films with their titles and genres, from 1995 to 2016, in order."""
    log = load_dataset("movielens", LogSettings(positive_from=None))
    assert (len(log), log.table["user"].n_unique(), log.table["item"].n_unique()) == (100_004, 671, 9_066)
    assert (log.first_ms, log.last_ms // 1000) == (789_652_009_000, 1_476_640_644)
    assert log.table["ts"].is_sorted()
    assert log.table.select(pl.struct("user", "ts").is_duplicated().any()).item() is False
    films = {key: json.loads(value) for key, value in log.catalogue}
    assert films["1"]["title"] == "Toy Story"
    assert films["1"]["features"]["year"] == 1995
    assert "Animation" in films["1"]["features"]["genres"]
    assert len(films) == 9_066
    assert sum("title" not in film for film in films.values()) <= 7


class PackageFile:
    """A file of an installed package."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path

    def locate(self) -> Path:
        return self._path


def test_ml_100k_is_read_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratings in order of time, titles with their quotes, a film without a year, genres as a list."""
    inter, item = tmp_path / "ml-100k.inter", tmp_path / "ml-100k.item"
    inter.write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t2\t4\t881250950\n8\t1\t3\t881250949\n"
    )
    heads = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    item.write_text(heads + '1\t"Toy" Story\t1995\tAnimation Comedy\n2\tunknown\t\tunknown\n')
    monkeypatch.setattr("sim.sources.datasets.files", lambda package: [PackageFile(inter), PackageFile(item)])
    log = load_dataset("ml-100k", LogSettings())
    assert log.table["user"].to_list() == ["8", "7"]
    films = {key: json.loads(value) for key, value in log.catalogue}
    assert films["1"]["title"] == '"Toy" Story'
    assert films["1"]["features"] == {"year": 1995, "genres": ["Animation", "Comedy"]}
    assert "year" not in films["2"].get("features", {})


def test_ml_100k_is_whole() -> None:
    """100,000 ratings by 943 users of 1,682 films."""
    if not find_spec("recbole"):
        pytest.skip("ml-100k comes with recbole, which is not installed")
    log = load_dataset("ml-100k", LogSettings())
    assert (len(log), log.users, log.items) == (100_000, 943, 1_682)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""

    def missing(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("sim.sources.datasets.files", missing)
    with pytest.raises(SimError, match="pip install --no-deps recbole"):
        load_dataset("ml-100k", LogSettings())


def test_an_unknown_data_set_is_refused_with_those_there_are() -> None:
    """The sentence lists them."""
    with pytest.raises(SimError, match="no data set 'netflix'; known are movielens, ml-100k"):
        load_dataset("netflix", LogSettings())
