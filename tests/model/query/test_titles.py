"""Titles out of a snapshot."""

from pathlib import Path

import pytest

from model.data.catalogue import Catalogue, decode
from model.errors import ModelError
from model.query.titles import read_titles
from model.storage.aliases import move
from model.storage.snapshot import write_snapshot
from tests.snapshots import some_manifest


def test_titles_are_those_of_the_snapshot(tmp_path: Path) -> None:
    """Without a snapshot no item has one; an alias that does not exist is a sentence."""
    assert read_titles(tmp_path, "latest")("42") is None
    catalogue = Catalogue()
    catalogue.apply(decode(b"42", b'{"item_id": 42, "title": "Dune", "ts": 7}', 0))
    arrays = {f"catalogue.{name}": array for name, array in catalogue.state().items()}
    made = write_snapshot(tmp_path, arrays=arrays, manifest=some_manifest())
    move(tmp_path, "latest", made.name)
    title = read_titles(tmp_path, "latest")
    assert (title("42"), title("43")) == ("Dune", None)
    with pytest.raises(ModelError, match="'prod' is neither a snapshot nor an alias"):
        read_titles(tmp_path, "prod")
