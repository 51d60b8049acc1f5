"""Byte strings of any length as two arrays: their bytes one after the other, and where each begins and ends."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def pack(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of all parts and the n + 1 offsets of the n parts.

    >>> joined, offsets = pack([b"ab", b"", b"c"])
    >>> joined.tobytes(), offsets.tolist(), unpack(joined, offsets)
    (b'abc', [0, 2, 2, 3], [b'ab', b'', b'c'])
    """
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.frombuffer(bytearray().join(parts), np.uint8), offsets


def unpack(joined: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[bytes]:
    """Return the parts that `pack` has joined."""
    data = joined.tobytes()
    return [data[a:b] for a, b in pairwise(offsets.tolist())]
