"""Texts of ids that have no row, kept until they get one: a text travels once with each token, often before its target.

Kept are the MOST texts that came last. A burial brings half as many at most, so that the texts of ids that are waiting
to be admitted outlast it. What is dropped leaves an id without a text until its next one comes, or a catalogue record.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.byte_strings import pack, unpack

MOST: Final = 1 << 18


class WaitingTexts:
    """Texts by key, those that came last at the end.

    Args:
        most: How many are kept.

    >>> waiting = WaitingTexts(2)
    >>> waiting.keep([7, 8, 7, 9], ["a", "b", "a", "c"])
    0
    >>> [waiting.take(key) for key in (7, 8, 9)]
    ['a', '', 'c']
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._texts: dict[int, str] = {}

    def keep(self, keys: Iterable[int], texts: Iterable[str]) -> int:
        """Keep the first text of each key; return how often one came with another text than that."""
        collisions = 0
        for key, text in zip(keys, texts, strict=True):
            kept = self._texts.pop(key, text)
            self._texts[key] = kept
            collisions += kept != text
        for key in list(islice(self._texts, max(0, len(self._texts) - self._most))):
            del self._texts[key]
        return collisions

    @property
    def most_buried(self) -> int:
        """How many texts a burial may bring."""
        return self._most // 2

    def take(self, key: int) -> str:
        """Return the text of a key and drop it; "" where none is kept."""
        return self._texts.pop(key, "")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        joined, offsets = pack([text.encode() for text in self._texts.values()])
        return {"keys": np.array(list(self._texts), np.uint64), "text_bytes": joined, "text_offsets": offsets}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds; a checkpoint of before there were such texts has none."""
        self._texts = {}
        if state:
            texts = unpack(state["text_bytes"], state["text_offsets"])
            self._texts.update(zip(state["keys"].tolist(), [text.decode() for text in texts], strict=True))
