"""Catalogues: a table of items as records of topic `items`."""

import json
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.item_records import read_items


def test_a_catalogue_has_titles_and_features(tmp_path: Path) -> None:
    """At the time of the first event; parts between | are a list, an empty cell is nothing."""
    items, ts_ms = tmp_path / "items.csv", 1_704_067_201_000
    items.write_text("id,title,genres,year\na,Alien,Horror|Sci-Fi,1979\nb,,,\n")
    records = [(key, json.loads(value)) for key, value in read_items(str(items), "item_id", ts_ms)]
    features = {"genres": ["Horror", "Sci-Fi"], "year": "1979"}
    assert records == [
        ("a", {"item_id": "a", "ts": ts_ms, "title": "Alien", "features": features}),
        ("b", {"item_id": "b", "ts": ts_ms}),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,year\nx,1\n", "none of the columns item_id, id, item, .* for the item's id; its columns are name, year"),
        ("id\na\na\n", "gives the item 'a' more than once"),
        ("id\n\n", "has no rows|has no id"),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    """In a sentence with the file's columns or the item."""
    items = tmp_path / "items.csv"
    items.write_text(content)
    with pytest.raises(SimError, match=sentence):
        read_items(str(items), "item_id", 0)
