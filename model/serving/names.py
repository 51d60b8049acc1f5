"""Ids, titles and features of what a snapshot knows."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.data.catalogue import Catalogue
from model.data.vocabulary import Vocabulary
from model.serving.responses import Event
from model.storage.snapshot import Snapshot
from stream.example import NO_KEY, Kind, id_key

_KINDS: Final = {Kind.IMPRESSION: "impression", Kind.ACTION: "action", Kind.ATTRIBUTE: "attribute"}


class Names:
    """Names of a snapshot's items and features.

    Args:
        snapshot: The snapshot, of which the catalogue is read.
        items: Its items.
        features: Its action names and attribute values.
    """

    def __init__(self, snapshot: Snapshot, items: Vocabulary, features: Vocabulary) -> None:
        state = under("catalogue.", snapshot.arrays)
        self._catalogue = Catalogue.from_state(state) if state else Catalogue()
        self._items, self._features = items, features
        self._dead = np.sort(snapshot.arrays.get("lives.dead_keys", np.empty(0, np.uint64)))

    def text(self, row: int) -> str:
        """Return the id of an item, by the catalogue if no event has told it; else its key in hex."""
        return self._items.texts[row] or self._by_key(int(self._items.keys[row]))

    def left(self, key: int) -> bool:
        """Return whether an item has left the vocabulary, as far as the snapshot remembers."""
        place = int(np.searchsorted(self._dead, np.uint64(key)))
        return place < len(self._dead) and int(self._dead[place]) == key

    def why_unscored(self, item: str) -> str:
        """Return why an item that is not live has no scores."""
        if self._items.rows(np.array([id_key(item)], np.uint64))[0] >= 0:
            return "withdrawn"
        return "left the vocabulary" if self.left(id_key(item)) else "unknown"

    def why_unknown(self, item: str) -> str:
        """Return a sentence on an item that has no row."""
        why = "no event has shown it yet"
        if self.left(id_key(item)):
            why = "it has left the vocabulary (train.item_ttl_d or train.max_items), and has no row"
        return f"The snapshot does not know the item {item[:80]!r}; {why}."

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Return the ids of no known item, each once."""
        rows = self._items.rows(np.array([id_key(text) for text in ids], np.uint64))
        return list(dict.fromkeys(text for text, row in zip(ids, rows.tolist(), strict=True) if row < 0))

    def title_at(self, row: int) -> str | None:
        """Return the title of the item in a row."""
        return self.title(int(self._items.keys[row]))

    def titles_at(self, rows: NDArray[np.int64]) -> list[str | None]:
        """Return the titles of the items in some rows."""
        return [self.title(key) for key in self._items.keys[rows].tolist()]

    def title(self, key: int) -> str | None:
        """Return the title of an item, None where the catalogue has none."""
        item = self._catalogue.get(key)
        return item.title if item else None

    def events(self, tokens: NDArray[Any]) -> list[Event]:
        """Return tokens (TOKEN_DTYPE) as events with the names that the snapshot has for them, in hex where none."""
        item_n, feature_n = self._items.rows(tokens["key"]), self._features.rows(tokens["key"])
        action_n = self._features.rows(tokens["action"])
        events = []
        for i, (key, action, ts_ms, kind) in enumerate(tokens[["key", "action", "ts_ms", "kind"]].tolist()):
            is_item = kind != Kind.ATTRIBUTE
            events.append(
                Event(
                    kind=_KINDS[Kind(kind)],
                    id=self._named(key, int(item_n[i]) if is_item else -1, int(feature_n[i]) if not is_item else -1),
                    title=self.title(key) if is_item else None,
                    action=None if action == NO_KEY else self._named(action, -1, int(action_n[i])),
                    ts_ms=ts_ms,
                )
            )
        return events

    def _named(self, key: int, item_row: int, feature_row: int) -> str:
        if item_row >= 0:
            return self.text(item_row)
        if feature_row >= 0:
            return self._features.texts[feature_row] or self._by_key(key)
        return self._by_key(key)

    def _by_key(self, key: int) -> str:
        """Return the id that the catalogue has for a key; else the key in hex, and whether its item has left."""
        left = ", left the vocabulary" if self.left(key) else ""
        return self._catalogue.id_of(key) or f"key {key:016x}{left}"

    def with_feature(self, name: str, value: str) -> NDArray[np.int64]:
        """Return the rows of the items whose catalogue record has this value, or a list with it; ascending."""
        return self._by_feature.get((name, value), np.zeros(0, np.int64))

    @cached_property
    def feature_names(self) -> list[str]:
        """The names of the features that items of the catalogue have, sorted."""
        return sorted({name for name, _ in self._by_feature})

    @cached_property
    def _by_feature(self) -> dict[tuple[str, str], NDArray[np.int64]]:
        rows: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(self._items.keys.tolist()):
            item = self._catalogue.get(key)
            for name, value in (item.features if item else {}).items():
                for one in value if isinstance(value, list) else [value]:
                    rows.setdefault((name, _value(one)), []).append(row)
        return {feature: np.array(found, np.int64) for feature, found in rows.items()}


def _value(value: Any) -> str:
    """Return a scalar of JSON as JSON writes it, a text without its quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)
