"""Files of arrays in the safetensors format, written array by array: no second copy of them is in memory.

The bytes are those that safetensors itself writes: a u64 with the size of the header, the header (JSON, padded with
spaces to a multiple of 8), then the arrays, the widest types first and by name, without gaps.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from model.errors import ModelError

_TYPES: Final = {  # in the order in which safetensors sorts them
    np.dtype(name): code
    for name, code in (
        *(("u8", "U64"), ("i8", "I64"), ("f8", "F64"), ("f4", "F32"), ("u4", "U32"), ("i4", "I32"), ("f2", "F16")),
        *(("u2", "U16"), ("i2", "I16"), ("i1", "I8"), ("u1", "U8"), ("?", "BOOL")),
    )
}
_ORDER: Final = {dtype: place for place, dtype in enumerate(_TYPES)}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, str]:
    """Write arrays to a file, fsync it, and return its size in bytes and the xxh3_128 of them in hex.

    Raises:
        OSError: The disk is full or not writable.
        ModelError: An array has a dtype that has no place in the format.
    """
    for name, array in arrays.items():
        if array.dtype not in _ORDER:
            raise ModelError(f"Array {name} is {array.dtype}, which a file of arrays does not hold; convert it.")
    names = sorted(arrays, key=lambda name: (_ORDER[arrays[name].dtype], name))
    size, hasher = 0, xxh3_128()
    with path.open("wb") as file:
        for part in (_header(arrays, names), *(_bytes(arrays[name]) for name in names)):
            size += len(part)
            hasher.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return size, hasher.hexdigest()


def _header(arrays: Mapping[str, NDArray[Any]], names: list[str]) -> memoryview:
    header: dict[str, Any] = {}
    start = 0
    for name in names:
        array = arrays[name]
        end = start + array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data
