"""Data sets of installed packages: they are whole, and a missing package is named."""

import json
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.datasets import load_dataset
from sim.sources.log_columns import LogSettings


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
