import doctest

import numpy as np
import pytest
from hypothesis import given, strategies as st

import model.arrays.texts
from model.arrays.byte_strings import pack
from model.arrays.texts import Texts
from model.errors import ModelError

texts = st.sampled_from(["", "a", "bc", "ø€𝄞"])


@given(
    st.lists(texts, max_size=6), st.integers(0, 9), st.dictionaries(st.integers(0, 5), texts), st.sampled_from([1, 99])
)
def test_texts_are_those_of_a_list(first: list[str], rows: int, later: dict[int, str], few: int) -> None:
    """What was loaded, what was set, packed meanwhile or not, and rows without; they are packed as a list is."""
    handed = pack([text.encode() for text in first])
    before, loaded, listed = [part.tolist() for part in handed], Texts(*handed), list(first)
    loaded.grow(rows)
    listed += [""] * (rows - len(listed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.arrays.texts, "_FEW", few)
        for row in later.keys() & set(range(len(listed))):
            loaded[row] = listed[row] = later[row]
    assert list(loaded) == listed
    assert loaded[1:4] == listed[1:4]
    for own, wanted in zip(loaded.packed(), pack([text.encode() for text in listed]), strict=True):
        assert own.dtype == wanted.dtype
        assert own.tolist() == wanted.tolist()
    assert [part.tolist() for part in handed] == before


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2], [0, 2, 1, 3]])
def test_offsets_that_do_not_fit_are_refused(offsets: list[int]) -> None:
    """They come from files: the sentence says what is damaged."""
    with pytest.raises(ModelError, match="damaged"):
        Texts(np.frombuffer(b"abc", np.uint8), np.array(offsets, np.int64))


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.arrays.texts).failed == 0
