"""Arrays that grow row by row, in place where the system can do it: no step waits for a table to be copied.

The capacity doubles when it is full, so that adding a row costs O(1) over time. On Linux an array of LEAST bytes or
more has memory of its own (an anonymous private mapping), and to grow it the kernel moves its pages to other addresses
(mremap): no byte is copied or written, and nothing is reserved. Elsewhere, and while anything else has a view of an
array, it is copied: a view stays what it was, since a mapping that has views cannot be moved.

A deep copy of an array has ordinary memory, and gets such a mapping when it grows.
"""

import math
import mmap
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

LEAST: Final = 1 << 20  # bytes, which are copied in less than a millisecond
_MAPS: Final = sys.platform == "linux"
_maps: Final[WeakValueDictionary[int, mmap.mmap]] = WeakValueDictionary()  # by address

Array = NDArray[Any]


def have_room(parts: MutableMapping[str, Any], rows: int, *names: str) -> None:
    """Have at least `rows` rows in each of these arrays; one that grows gets at least twice as many as it has.

    >>> parts = {"counts": np.array([3, 4, 5])}
    >>> have_room(parts, 4, "counts")
    >>> parts["counts"].tolist()
    [3, 4, 5, 0, 0, 0]
    """
    for name in names:
        if rows > (has := len(parts[name])):
            lengthen(parts, max(rows, 2 * has), name)


def lengthen(parts: MutableMapping[str, Any], rows: int, *names: str) -> None:
    """Have at least `rows` rows in each of these arrays, and no more in one that grows; new rows are zeros.

    Args:
        parts: Arrays by name, such as the attributes of an object (`vars(self)`). These must be the only references to
            arrays that are to grow without a copy. No other thread may look them up meanwhile.
        rows: The number of rows.
        names: Of the arrays.

    Raises:
        MemoryError: There is not so much; the arrays hold what they held.
    """
    for name in names:
        if rows > len(parts[name]) and not _remap(parts, rows, name):
            old = parts[name]
            parts[name] = new = _zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(old)] = old


def _remap(parts: MutableMapping[str, Any], rows: int, name: str) -> bool:
    """Return whether an array could be lengthened in place."""
    array = parts[name]
    memory, dtype, row = _maps.get(address := _address(array)), array.dtype, array.shape[1:]
    if memory is None or array.nbytes != len(memory) or not array.flags.c_contiguous:
        return False
    del array, parts[name]
    try:
        memory.resize(rows * math.prod(row) * dtype.itemsize)
    except BufferError:  # it has other views
        return False
    except OSError as error:
        raise MemoryError(f"no memory for {rows:,} rows") from error
    finally:
        parts[name] = _array(memory, dtype, row)
        del _maps[address]
        _maps[_address(parts[name])] = memory
    return True


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = math.prod(shape) * dtype.itemsize
    if not _MAPS or size < LEAST:
        return np.zeros(shape, dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for an array of {size:,} bytes") from error
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)  # as numpy does; rows are gathered in three quarters of the time
    array = _array(memory, dtype, shape[1:])
    _maps[_address(array)] = memory
    return array


def _array(memory: mmap.mmap, dtype: np.dtype[Any], row: tuple[int, ...]) -> Array:
    """Return a mapping as rows; the array holds the mapping's buffer, which torch.frombuffer would not."""
    return np.frombuffer(memory, dtype).reshape(-1, *row)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
