"""The vocabulary: 64-bit keys to rows 0, 1, 2, … of a table, without collisions of rows.

R = rows so far. A key gets a row when it is admitted, the first free one or the next, and keeps it until it is buried;
then its row is free, and nothing of it is left here but a withdrawal. Each row has: born_ms, the smallest event time at
which any token has shown the key so far (an older token that comes later moves it back); its text, "" until an example
brings it; and whether and when its item was withdrawn. One vocabulary holds the items, one the features (attribute
values and action names). Callers leave out the key NO_KEY. The state is a function of the calls in their order, and so
of the events.

    array                    of state(), kept in checkpoints and snapshots
    keys               u64   [R] NO_KEY in a free row
    born_ms            i64   [R] 2^63 - 1 in a free row
    withdrawn          bool  [R]
    withdrawn_ms       i64   [R] event time of the withdrawal, 0 where there is none
    text_bytes         u8    UTF-8 of all texts, one after the other
    text_offsets       i64   [R+1] into text_bytes
    withdrawn_unknown  u64   keys withdrawn before any token has shown them, ascending
    withdrawn_unknown_ms i64 the times of these withdrawals
    collisions         i64   [1]
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.digest import Hasher, digest_arrays
from model.arrays.growable import have_room
from model.arrays.texts import Texts
from model.errors import ModelError
from model.keys.key_table import KeyTable
from stream.example import NO_KEY

_NEVER_MS: Final = np.iinfo(np.int64).max


class Vocabulary:
    """Keys, births, texts and withdrawals by row; the arrays are views of the rows so far: read them, do not keep them.

    >>> items = Vocabulary()
    >>> items.admit(np.array([7, 9, 7], np.uint64), np.array([30, 40, 20])).tolist()
    [0, 1, 0]
    >>> items.born_ms.tolist(), items.rows(np.array([9, 8], np.uint64)).tolist()
    ([20, 40], [1, -1])
    """

    def __init__(self) -> None:
        self.texts = Texts()  # [R]
        self.collisions = 0  # times that a known key came with a text other than its own
        self.without_text = 0  # keys that have a row, and no text yet
        self._table = KeyTable()
        self._len = 0
        self._free = np.empty(0, np.int64)  # ascending
        self._keys = np.empty(0, np.uint64)
        self._born_ms = np.empty(0, np.int64)
        self._withdrawn = np.empty(0, np.bool_)
        self._withdrawn_ms = np.empty(0, np.int64)
        self._withdrawn_unknown: dict[int, int] = {}  # key: ts_ms
        self._lent = 0  # rows of the births that others hold as they were
        self._live: tuple[NDArray[np.bool_], NDArray[np.intp]] | None = None  # mask and rows, until either changes

    def __len__(self) -> int:
        """Return the number of rows, free ones included."""
        return self._len

    @property
    def known(self) -> int:
        """The number of keys that have a row."""
        return len(self._table)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Key of each row, [R]."""
        return self._keys[: len(self)]

    @property
    def born_ms(self) -> NDArray[np.int64]:
        """Smallest event time seen of each row's key, [R]."""
        return self._born_ms[: len(self)]

    def births(self) -> NDArray[np.int64]:
        """Return born_ms as it is now, [R], in memory that later calls leave alone."""
        self._lent = len(self)
        return self.born_ms

    @property
    def withdrawn(self) -> NDArray[np.bool_]:
        """Which rows are withdrawn, [R]."""
        return self._withdrawn[: len(self)]

    @property
    def withdrawn_ms(self) -> NDArray[np.int64]:
        """When each withdrawn row was withdrawn, 0 for the others, [R]."""
        return self._withdrawn_ms[: len(self)]

    def used_mask(self) -> NDArray[np.bool_]:
        """Return which rows hold a key, [R]."""
        mask_R: NDArray[np.bool_] = self.keys != NO_KEY
        return mask_R

    def live_mask(self) -> NDArray[np.bool_]:
        """Return which rows hold a key that is not withdrawn, [R], in memory that later calls leave alone."""
        return self._live_now()[0]

    def live(self) -> NDArray[np.intp]:
        """Return the rows that hold a key that is not withdrawn, ascending, in memory that later calls leave alone."""
        return self._live_now()[1]

    def _live_now(self) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        if self._live is None:
            mask_R = self.used_mask() & ~self.withdrawn
            self._live = mask_R, np.flatnonzero(mask_R)
        return self._live

    def rows(self, keys_L: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each key, -1 where it is unknown, [L]."""
        return self._table.rows(keys_L)

    def admit(
        self, keys_L: NDArray[np.uint64], ts_ms_L: NDArray[np.int64], room: int | None = None
    ) -> NDArray[np.int64]:
        """Admit new keys, move births back to these times, and return the row of each key, [L].

        Args:
            keys_L: The keys.
            ts_ms_L: When tokens have shown them.
            room: How many new keys may get a row; the others get none, -1. None: all.
        """
        most = len(keys_L) if room is None else min(room, len(keys_L))
        given = np.concatenate((self._free[:most], np.arange(len(self), len(self) + max(0, most - len(self._free)))))
        row_L, used = self._table.add(keys_L, given)
        if used:
            self._fill(given[:used], keys_L, row_L)
        known_L = row_L >= 0
        rows, ts_ms = row_L[known_L], ts_ms_L[known_L]
        earlier = ts_ms < self._born_ms[rows]
        self._keep_lent(rows[earlier])
        np.minimum.at(self._born_ms, rows[earlier], ts_ms[earlier])
        return row_L

    def _keep_lent(self, rows: NDArray[np.int64]) -> None:
        """Copy the births if others hold some of these rows, which are about to change."""
        if (rows < self._lent).any():
            self._born_ms, self._lent = self._born_ms.copy(), 0

    def _fill(self, rows: NDArray[np.int64], keys_L: NDArray[np.uint64], row_L: NDArray[np.int64]) -> None:
        """Take rows into use for keys that have just got them."""
        self._free, self._live = self._free[len(rows) :], None
        self._keep_lent(rows)
        self._len = max(len(self), int(rows[-1]) + 1)
        have_room(vars(self), len(self), "_keys", "_born_ms", "_withdrawn", "_withdrawn_ms")
        self.texts.grow(len(self))
        self.without_text += len(rows)
        self._keys[row_L[row_L >= 0]] = keys_L[row_L >= 0]
        self._born_ms[rows] = _NEVER_MS
        for key in self._withdrawn_unknown.keys() & self._keys[rows].tolist():
            self.withdraw(key, self._withdrawn_unknown.pop(key))

    def bury(self, rows: NDArray[np.int64]) -> None:
        """Take the keys of these rows out, and free the rows; a withdrawal waits until its key comes back."""
        for row in rows[self._withdrawn[rows]].tolist():
            self._withdrawn_unknown[int(self._keys[row])] = int(self._withdrawn_ms[row])
        self._table.remove(self._keys[rows])
        self._keep_lent(rows)
        self._live = None
        self._keys[rows], self._born_ms[rows] = NO_KEY, _NEVER_MS
        self._withdrawn[rows], self._withdrawn_ms[rows] = False, 0
        self.without_text -= int(np.count_nonzero(~self.texts.filled(rows)))
        self.texts.clear(rows)
        self._free = np.sort(np.concatenate((self._free, rows)))

    def learn_texts(self, keys: Iterable[int], texts: Iterable[str]) -> None:
        """Keep the first text of each known key; a text that differs from the one kept is a collision.

        Unknown keys are passed over: an example's texts are of items and features alike.
        """
        keys = list(keys)
        for row, text in zip(self.rows(np.array(keys, np.uint64)).tolist(), texts, strict=True):
            if row < 0:
                continue
            kept = self.texts[row]
            if text and not kept:
                self.texts[row] = text
                self.without_text -= 1
            self.collisions += bool(kept) and kept != text

    def withdraw(self, key: int, ts_ms: int) -> None:
        """Mark an item as withdrawn since ts_ms; no token need have shown it yet."""
        row = self._row(key)
        if row < 0:
            self._withdrawn_unknown[key] = ts_ms
        else:
            self._withdrawn[row] = True
            self._withdrawn_ms[row] = ts_ms
            self._live = None

    def restore(self, key: int) -> None:
        """Undo a withdrawal, if there is one."""
        self._withdrawn_unknown.pop(key, None)
        row = self._row(key)
        if row >= 0:
            self._withdrawn[row] = False
            self._withdrawn_ms[row] = 0
            self._live = None

    def _row(self, key: int) -> int:
        return int(self.rows(np.array([key], np.uint64))[0])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the table above; some are views, so write or copy them before the next call."""
        text_bytes, text_offsets = self.texts.packed()
        unknown = sorted(self._withdrawn_unknown.items())
        return {
            "keys": self.keys,
            "born_ms": self.born_ms,
            "withdrawn": self.withdrawn,
            "withdrawn_ms": self.withdrawn_ms,
            "text_bytes": text_bytes,
            "text_offsets": text_offsets,
            "withdrawn_unknown": np.array([key for key, _ in unknown], np.uint64),
            "withdrawn_unknown_ms": np.array([ts_ms for _, ts_ms in unknown], np.int64),
            "collisions": np.array([self.collisions], np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Vocabulary":
        """Return the vocabulary of a state.

        Raises:
            ModelError: A key has two rows, or the columns have different lengths.
        """
        new = cls()
        new._keys = np.array(state["keys"], np.uint64)
        new._born_ms = np.array(state["born_ms"], np.int64)
        new._withdrawn = np.array(state["withdrawn"], np.bool_)
        new._withdrawn_ms = np.array(state["withdrawn_ms"], np.int64)
        new.texts = Texts(state["text_bytes"], state["text_offsets"])
        new._len, free = len(new._keys), new._keys == NO_KEY
        new._free = np.flatnonzero(free)
        _, distinct = new._table.add(new._keys[~free], np.flatnonzero(~free))
        unknown = state["withdrawn_unknown"].tolist(), state["withdrawn_unknown_ms"].tolist()
        new._withdrawn_unknown = dict(zip(*unknown, strict=True))
        new.collisions = int(state["collisions"][0])
        columns = new._keys, new._born_ms, new._withdrawn, new._withdrawn_ms, new.texts
        if distinct + len(new._free) != len(new) or any(len(column) != len(new) for column in columns):
            raise ModelError(
                f"A vocabulary has {len(new)} keys, {distinct} of them distinct, {len(new._born_ms)} births and "
                f"{len(new.texts)} texts, which must be as many: it is damaged; go back to an older one."
            )
        new.without_text = int(np.count_nonzero(~free & (np.diff(state["text_offsets"]) == 0)))
        return new

    def digest_update(self, hasher: Hasher) -> None:
        """Feed the whole state to a hasher."""
        digest_arrays(hasher, self.state())
