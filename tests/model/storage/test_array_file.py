from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from xxhash import xxh3_128_hexdigest

from model.errors import ModelError
from model.storage.array_file import write_arrays

TYPES = ("u8", "i8", "f8", "f4", "u4", "i4", "f2", "u2", "i2", "i1", "u1", "?")


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    """Whatever types, shapes and names: views, scalars and empty arrays as well; size and digest are the file's."""
    rng = np.random.default_rng(0)
    for count in range(12):
        arrays = {}
        for each in range(count):
            shape = tuple(rng.integers(0, 4, size=rng.integers(0, 3)).tolist())
            array = rng.integers(0, 100, size=shape).astype(TYPES[(each * 7 + count) % len(TYPES)])
            arrays[f"{'zäa'[each % 3]}.{each}"] = array.T if each % 2 else np.asarray(array)
        path = tmp_path / f"{count}.safetensors"
        size, digest = write_arrays(path, arrays)
        data = path.read_bytes()
        assert data == save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        assert (size, digest) == (len(data), xxh3_128_hexdigest(data))
        found = load_file(path)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_a_type_without_a_place_is_refused(tmp_path: Path) -> None:
    """The sentence names the array; no file is made."""
    with pytest.raises(ModelError, match=r"Array times is datetime64\[s\]"):
        write_arrays(tmp_path / "file", {"times": np.zeros(2, "datetime64[s]")})
    assert not (tmp_path / "file").exists()
