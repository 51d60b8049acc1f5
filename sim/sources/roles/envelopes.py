"""Envelopes around the rows of a table: columns of how a row travelled, or of what it was before, have no role."""

import re
from collections.abc import Collection, Iterator
from typing import Final

_KCAT: Final = {"topic", "partition", "offset", "tstype", "ts"}
_PAYLOAD: Final = "payload."
_CHANGES: Final = {  # the new row → how names beside it begin: those of the old row, by which it is told, and others
    "after.": ("before.", "source.", "transaction."),  # Debezium
    "data.": ("old.", "ts", "xid"),  # Maxwell
    "fullDocument.": ("fullDocumentBeforeChange.", "updateDescription."),  # MongoDB
    "NewImage.": ("OldImage.", "Keys."),  # DynamoDB
}


def inner_columns(columns: Collection[str]) -> list[str]:
    """Return the columns of the rows themselves; of a table without an envelope, all."""
    inside = [name for name in columns if name.startswith(_PAYLOAD)] if set(columns) >= _KCAT else []
    inside = inside or list(columns)
    others = tuple(_beside_changes(inside))
    return [name for name in inside if not name.startswith(others)]


def _beside_changes(columns: Collection[str]) -> Iterator[str]:
    """Yield how the names of columns beside a new row begin."""
    for new, others in _CHANGES.items():
        found = (re.match(rf"(|.*?\.){re.escape(new)}", name) for name in columns)
        for outer in {match[1] for match in found if match}:
            if any(f"{name}.".startswith(outer + others[0]) for name in columns):  # it may be null throughout
                yield from (outer + other for other in others)
