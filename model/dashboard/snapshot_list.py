"""The snapshots of one trainer, with their aliases and metrics; manifests, which never change, are read once."""

from pathlib import Path
from typing import Any, Final

from model.errors import ModelError
from model.evaluation.metrics import ALL, HEADLINE
from model.storage.aliases import list_aliases
from model.storage.snapshot import ID_PATTERN, Manifest, entries, read_manifest

SHOWN: Final = 30  # newest; those with an alias as well
Row = dict[str, Any]


class SnapshotList:
    """Lists the snapshots of a directory.

    Args:
        directory: Folder of the snapshots of one trainer.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: dict[str, Row] = {}

    def look(self, most: int = SHOWN) -> list[Row]:
        """Return the newest and the named snapshots, newest first, each with its aliases.

        Raises:
            ModelError: The folder cannot be read.
        """
        ids = sorted((path.name for path in entries(self._directory) if ID_PATTERN.fullmatch(path.name)), reverse=True)
        aliases = list_aliases(self._directory)
        wanted = [each for place, each in enumerate(ids) if place < most or each in aliases.values()]
        self._rows = {each: row for each in wanted if (row := self._rows.get(each) or self._read(each))}
        return [
            {**row, "aliases": [alias for alias, to in aliases.items() if to == each]}
            for each, row in self._rows.items()
        ]

    def _read(self, snapshot_id: str) -> Row | None:
        try:
            return _row(read_manifest(self._directory / snapshot_id))
        except ModelError:  # torn, foreign, or deleted a moment ago; `hstu snapshots list` names it
            return None


def _row(manifest: Manifest) -> Row:
    window = manifest.metrics.get("retrieval", {}).get("hstu", {}).get("window", {}).get(ALL, {})
    fields = ("id", "parent", "step", "created", "watermark_ms", "targets", "arrays_bytes")
    return {
        **{name: getattr(manifest, name) for name in fields},
        "window": {"targets": window.get("targets", 0), HEADLINE.key: window.get(HEADLINE.key)},
    }
