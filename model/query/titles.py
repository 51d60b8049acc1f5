"""Titles of items out of a snapshot, for verbs that show stored sequences."""

from collections.abc import Callable
from pathlib import Path

from model.arrays.state import under
from model.data.catalogue import Catalogue
from model.storage.aliases import resolve
from model.storage.snapshot import list_snapshots, load_snapshot
from stream.example import id_key


def read_titles(directory: Path, alias: str) -> Callable[[str], str | None]:
    """Return what finds an item's title; it knows none where the directory has no snapshot yet.

    Raises:
        ModelError: There are snapshots, but not the one that is named; or it cannot be read.
    """
    if not list_snapshots(directory):
        return lambda item_id: None
    catalogue = Catalogue.from_state(under("catalogue.", load_snapshot(resolve(directory, alias)).arrays))

    def title(item_id: str) -> str | None:
        item = catalogue.get(id_key(item_id))
        return item.title if item else None

    return title
