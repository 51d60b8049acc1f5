import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from model.arrays.digest import digest_arrays


def digest(**arrays: np.ndarray) -> str:
    hasher = xxh3_128()
    digest_arrays(hasher, arrays)
    return hasher.hexdigest()


def test_name_dtype_shape_and_elements_count_and_layout_does_not() -> None:
    """Arrays that differ in one of them have different digests; a strided view has the digest of its copy."""
    zeros = np.zeros((2, 3), np.int32)
    different = [
        digest(a=zeros),
        digest(b=zeros),
        digest(a=zeros.T),
        digest(a=zeros.view(np.float32)),
        digest(a=zeros + np.eye(2, 3, dtype=np.int32)),
        digest(a=zeros, b=zeros[:0]),
        digest(),
    ]
    assert len(set(different)) == len(different)
    wide = np.arange(12).reshape(3, 4)
    assert digest(a=wide[:, ::2]) == digest(a=wide[:, ::2].copy())


def test_the_bytes_are_those_of_the_docstring() -> None:
    """Name, dtype, shape and elements, in this order, so that stored digests stay comparable."""
    expected = xxh3_128_hexdigest(b"a <i8 (1,)\n" + (7).to_bytes(8, "little"))
    assert digest(a=np.array([7], np.int64)) == expected
