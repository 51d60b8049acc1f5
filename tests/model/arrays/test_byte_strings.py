import doctest

from hypothesis import given, strategies as st

import model.arrays.byte_strings
from model.arrays.byte_strings import pack, unpack


@given(st.lists(st.binary(max_size=4), max_size=5))
def test_what_is_packed_is_unpacked(parts: list[bytes]) -> None:
    """Empty parts and no parts at all included."""
    joined, offsets = pack(parts)
    assert unpack(joined, offsets) == parts
    assert (joined.dtype, offsets.dtype, len(offsets)) == ("uint8", "int64", len(parts) + 1)


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.arrays.byte_strings).failed == 0
