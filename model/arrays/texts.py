"""Texts of rows, packed in one array of bytes: setting one costs the same however many there are.

R = rows. A text that is set is written behind all others, and what it replaces is left there until half of the bytes
are such; then all are packed anew. As a list of a million texts, loading and writing take a second of Python, under its
lock, and 60 MB.
"""

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from model.arrays.byte_strings import unpack
from model.arrays.growable import have_room
from model.arrays.jit import compiled
from model.errors import ModelError

_SLACK: Final = 1 << 20  # bytes of replaced texts that may always be left


class Texts(Sequence[str]):
    """A text for each row, "" at first.

    Args:
        joined: The texts' UTF-8, one after the other; it is read, and never changed.
        offsets: [R + 1] where each begins and ends in it.

    Raises:
        ModelError: The offsets do not divide the bytes.

    >>> texts = Texts(np.frombuffer(b"abc", np.uint8), np.array([0, 2, 3]))
    >>> texts.grow(4)
    >>> texts[1] = "ø"
    >>> list(texts), [part.tolist() for part in texts.packed()]
    (['ab', 'ø', '', ''], [[97, 98, 195, 184], [0, 2, 4, 4, 4]])
    """

    def __init__(self, joined: NDArray[np.uint8] | None = None, offsets: NDArray[np.int64] | None = None) -> None:
        joined = np.empty(0, np.uint8) if joined is None else joined
        offsets = np.zeros(1, np.int64) if offsets is None else offsets
        whole = len(offsets) and offsets[0] == 0 and offsets[-1] == len(joined)
        if not whole or (np.diff(offsets) < 0).any():
            raise ModelError("Offsets of texts do not divide their bytes: they are damaged; go back to an older one.")
        self._take(joined, offsets)

    def _take(self, joined: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self._len = len(offsets) - 1
        self._bytes, self._used = joined, len(joined)  # and room for more
        self._live = self._used  # bytes of texts that are some row's
        self._begins, self._ends = offsets[:-1].copy(), offsets[1:].copy()  # [R and room for more] in the bytes

    def __len__(self) -> int:
        return self._len

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return the text of a row."""
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        if not 0 <= row < self._len:
            raise IndexError(f"row {row} of {self._len}")
        return self._bytes[self._begins[row] : self._ends[row]].tobytes().decode()

    def __setitem__(self, row: int, text: str) -> None:
        """Set the text of a row."""
        data = np.frombuffer(text.encode(), np.uint8)
        begin, end = self._used, self._used + len(data)
        have_room(vars(self), end, "_bytes")
        self._bytes[begin:end] = data
        self._live += len(data) - int(self._ends[row] - self._begins[row])
        self._begins[row], self._ends[row], self._used = begin, end, end
        self._pack_if_sparse()

    def _pack_if_sparse(self) -> None:
        if self._used > 2 * self._live + _SLACK:
            self._take(*self.packed())

    def filled(self, rows_n: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows have a text other than "", [n]."""
        filled_n: NDArray[np.bool_] = self._ends[rows_n] > self._begins[rows_n]
        return filled_n

    def of(self, rows_n: NDArray[np.int64]) -> list[str]:
        """Return the texts of rows."""
        begins, ends = self._begins[rows_n], self._ends[rows_n]
        joined = np.empty(int((ends - begins).sum()), np.uint8)
        _gather(self._bytes, begins, ends, joined)
        return [text.decode() for text in unpack(joined, np.append(0, np.cumsum(ends - begins)))]

    def clear(self, rows_n: NDArray[np.int64]) -> None:
        """Set the texts of rows to "", each row once."""
        self._live -= int((self._ends[rows_n] - self._begins[rows_n]).sum())
        self._begins[rows_n] = self._ends[rows_n] = self._used
        self._pack_if_sparse()

    def grow(self, rows: int) -> None:
        """Have at least so many rows."""
        have_room(vars(self), rows, "_begins", "_ends")
        self._len = max(self._len, rows)

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all texts as this class takes them."""
        begins, ends = self._begins[: self._len], self._ends[: self._len]
        offsets = np.zeros(self._len + 1, np.int64)
        np.cumsum(ends - begins, out=offsets[1:])
        joined = np.empty(self._live, np.uint8)
        _gather(self._bytes, begins, ends, joined)
        return joined, offsets


@compiled
def _gather(
    every: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64], joined: NDArray[np.uint8]
) -> None:
    """Write the texts one after the other; those that lie so already are moved together."""
    row = at = 0
    while row < len(begins):
        begin, end = begins[row], ends[row]
        row += 1
        while row < len(begins) and begins[row] == end:
            end = ends[row]
            row += 1
        joined[at : at + end - begin] = every[begin:end]
        at += end - begin
