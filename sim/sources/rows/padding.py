"""What fills lists up to one length: the same value at the end of each, or at its beginning, that is no item."""

from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sim.sources.tables.cells import NO_VALUES

_FILLERS: Final = ("-1", "0", "<pad>", "[pad]", "pad")  # besides nothing, NaN and the like
_REPEATED: Final = ("0",)  # fillers that may be items, unless a list has them twice
NOTHING: Final = "nothing"

Bools = NDArray[np.bool_]


class Padding(NamedTuple):
    """A filler of lists."""

    text: str
    """In small letters, or NOTHING."""
    side: Literal["end", "beginning"]

    def places(self, owner: NDArray[np.intp], texts: pl.Series) -> Bools:
        """Return which ids of lists only fill them up.

        Args:
            owner: The list of each id, rising.
            texts: The ids.
        """
        found = _filled(self.text, texts)
        return found & _outside(owner, found, self.side)


def padding_of(owner: NDArray[np.intp], texts: pl.Series) -> Padding | None:
    """Return what fills lists up, if something stands at that side of them and nowhere else."""
    several = np.bincount(owner)[owner] > 1 if len(owner) else np.zeros(0, bool)
    for text in (NOTHING, *_FILLERS):
        found = _filled(text, texts) & several
        if not found.any() or found.all() or (text in _REPEATED and np.bincount(owner, found).max() < 2):
            continue
        for side in ("end", "beginning"):
            if _outside(owner, found, side)[found].all():
                return Padding(text, side)
    return None


def _filled(text: str, texts: pl.Series) -> Bools:
    small = texts.str.to_lowercase()
    found = small.is_null() | small.is_in(NO_VALUES) if text == NOTHING else small == text
    return found.fill_null(False).to_numpy()


def _outside(owner: NDArray[np.intp], found: Bools, side: Literal["end", "beginning"]) -> Bools:
    """Return which places are so near to a side of their list that only fillers can stand there, as many as it has."""
    sizes, fillers = np.bincount(owner), np.bincount(owner, found)
    place = np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]
    near: Bools = (sizes[owner] - 1 - place if side == "end" else place) < fillers[owner]
    return near
