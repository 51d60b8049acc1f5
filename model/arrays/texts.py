"""Texts of rows: most are packed, and only what was set of late is a text of its own.

R = rows. As a list of a million texts, loading and writing take a second of Python, under its lock, and 60 MB.
"""

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

_FEW: Final = 1 << 12  # texts that are set and not packed


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
        self._joined = np.empty(0, np.uint8) if joined is None else joined
        self._offsets = np.zeros(1, np.int64) if offsets is None else offsets
        whole = len(self._offsets) and self._offsets[0] == 0 and self._offsets[-1] == len(self._joined)
        if not whole or (np.diff(self._offsets) < 0).any():
            raise ModelError("Offsets of texts do not divide their bytes: they are damaged; go back to an older one.")
        self._len = len(self._offsets) - 1
        self._set: dict[int, str] = {}

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
        if (text := self._set.get(row)) is not None:
            return text
        if row >= len(self._offsets) - 1:
            return ""
        return self._joined[self._offsets[row] : self._offsets[row + 1]].tobytes().decode()

    def __setitem__(self, row: int, text: str) -> None:
        """Set the text of a row; where more were set than are packed, pack all."""
        self._set[row] = text
        if len(self._set) > max(_FEW, len(self._offsets)):
            self._joined, self._offsets = self.packed()
            self._set.clear()

    def grow(self, rows: int) -> None:
        """Have at least so many rows."""
        self._len = max(self._len, rows)

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all texts as this class takes them; the arrays that it has got where nothing was set since."""
        if not self._set and self._len == len(self._offsets) - 1:
            return self._joined, self._offsets
        rows, last = np.array(sorted(self._set), np.int64), len(self._offsets) - 1
        texts = [self._set[row].encode() for row in rows.tolist()]
        lengths = np.zeros(self._len, np.int64)
        lengths[:last] = np.diff(self._offsets)
        lengths[rows] = [len(text) for text in texts]
        parts: list[bytes | memoryview] = []
        packed, at = memoryview(self._joined), 0  # type: ignore[arg-type]
        begins, ends = (self._offsets[np.minimum(each, last)].tolist() for each in (rows, rows + 1))
        for text, begin, end in zip(texts, begins, ends, strict=True):
            if begin > at:
                parts.append(packed[at:begin])
            parts.append(text)
            at = end
        joined = np.frombuffer(bytearray().join([*parts, packed[at:]]), np.uint8)
        return joined, np.concatenate(([0], np.cumsum(lengths)))
