"""The difference of two flat arrays as stretches of the old one and what lies between them: compiled loops.

m = elements of the old array, n = of the new one, k = stretches. Insertions and deletions move what comes after them,
so places are not compared with themselves: blocks of BLOCK elements of the old array are found at any place of the new
one by a rolling hash (Rabin-Karp, as rsync does), compared element by element, and extended as far as both agree. The
cost is O(m + n), whatever the arrays hold.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled

BLOCK: Final = 32  # elements
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd
_HALF: Final = np.uint64(32)

Array = NDArray[Any]


class Splice(NamedTuple):
    """How the new array is made of the old one."""

    stretches: NDArray[np.int64]  # [k, 3] place in the new array, place in the old one, length; ascending
    rest: Array  # what is in no stretch, in its order


def splice(old_m: Array, new_n: Array) -> Splice:
    """Return the difference of two flat arrays of one dtype."""
    mine, other = words(new_n), words(old_m)
    stretch_k3 = np.empty((len(mine) // BLOCK + 1, 3), np.int64)
    stretch_k3 = stretch_k3[: _matches(other, mine, stretch_k3)].copy()
    rest = np.empty(len(mine) - int(stretch_k3[:, 2].sum()), mine.dtype)
    _rest(mine, stretch_k3, rest)
    return Splice(stretch_k3, rest.view(new_n.dtype))


def spliced(old_m: Array, difference: Splice, size: int) -> Array:
    """Return the new array, [size].

    Raises:
        ValueError: The difference does not belong to these sizes.
    """
    stretch_k3, rest = difference
    at, place, length = stretch_k3.T
    ends = np.concatenate((np.zeros(1, np.int64), at + length))
    inside = (length > 0).all() and (place >= 0).all() and (place <= len(old_m) - length).all()
    if not inside or (at < ends[:-1]).any() or ends[-1] > size or int(length.sum()) + len(rest) != size:
        raise ValueError("stretches of an array lie outside it")
    new = np.empty(size, old_m.dtype)
    _join(words(old_m), stretch_k3, words(rest), words(new))
    return new


def words(array: Array) -> Array:
    """Return an array's elements as unsigned integers of the same size, so that all bits are compared; a view."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


@compiled
def _hash(words: Array, first: int) -> Any:
    found = np.uint64(0)
    for k in range(first, first + BLOCK):
        found = found * _FACTOR + np.uint64(words[k])
    return found


@compiled
def _same(old: Array, i: int, new: Array, j: int) -> bool:
    return bool((old[i : i + BLOCK] == new[j : j + BLOCK]).all())


@compiled
def _blocks(old: Array) -> tuple[Array, Array]:
    """Return a table from hash to the first block that has it (slot -> block, -1 where empty), and all hashes."""
    size = 1
    while size < 2 * (len(old) // BLOCK):
        size *= 2
    slots, hashes = np.full(size, -1), np.empty(len(old) // BLOCK, np.uint64)
    for block in range(len(hashes)):
        hashes[block] = _hash(old, block * BLOCK)
        at = _slot(slots, hashes, hashes[block])
        if slots[at] < 0:
            slots[at] = block
    return slots, hashes


@compiled
def _slot(slots: Array, hashes: Array, wanted: Any) -> Any:
    """Return the slot of a hash, or the empty one where it would be."""
    mask = len(slots) - 1
    at = np.int64(wanted >> _HALF) & mask
    while slots[at] >= 0 and hashes[slots[at]] != wanted:
        at = (at + 1) & mask
    return at


@compiled
def _matches(old: Array, new: Array, stretches: Array) -> int:
    """Write the stretches that the arrays have in common; return their number."""
    found = done = j = 0
    if len(old) < BLOCK or len(new) < BLOCK:
        return found
    slots, hashes = _blocks(old)
    power = np.uint64(1)
    for _ in range(BLOCK - 1):
        power *= _FACTOR
    hashed = _hash(new, 0)
    while True:
        block = slots[_slot(slots, hashes, hashed)]
        if block >= 0 and _same(old, block * BLOCK, new, j):
            i = block * BLOCK
            while j > done and i > 0 and new[j - 1] == old[i - 1]:
                i -= 1
                j -= 1
            length = BLOCK
            while j + length < len(new) and i + length < len(old) and new[j + length] == old[i + length]:
                length += 1
            stretches[found, 0], stretches[found, 1], stretches[found, 2] = j, i, length
            found += 1
            j += length
            done = j
            if j + BLOCK > len(new):
                break
            hashed = _hash(new, j)
        else:
            if j + BLOCK >= len(new):
                break
            hashed = (hashed - np.uint64(new[j]) * power) * _FACTOR + np.uint64(new[j + BLOCK])
            j += 1
    return found


@compiled
def _rest(new: Array, stretches: Array, rest: Array) -> None:
    at = j = 0
    for k in range(len(stretches)):
        rest[at : at + stretches[k, 0] - j] = new[j : stretches[k, 0]]
        at += stretches[k, 0] - j
        j = stretches[k, 0] + stretches[k, 2]
    rest[at:] = new[j:]


@compiled
def _join(old: Array, stretches: Array, rest: Array, new: Array) -> None:
    at = j = 0
    for k in range(len(stretches)):
        to, place, length = stretches[k, 0], stretches[k, 1], stretches[k, 2]
        new[j:to] = rest[at : at + to - j]
        new[to : to + length] = old[place : place + length]
        at += to - j
        j = to + length
    new[j:] = rest[at:]
