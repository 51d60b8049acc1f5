import doctest

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import model.arrays.texts
from model.arrays.byte_strings import pack
from model.arrays.texts import Texts
from model.errors import ModelError

texts = st.sampled_from(["", "a", "bc", "ø€𝄞"])


@given(
    st.lists(texts, max_size=6),
    st.lists(st.tuples(st.integers(0, 9), texts), max_size=20),
    st.sampled_from([0, 99]),
    st.sets(st.integers(0, 9)),
)
@settings(deadline=None)  # the first one compiles
def test_texts_are_those_of_a_list(
    first: list[str], later: list[tuple[int, str]], slack: int, cleared: set[int]
) -> None:
    """What was loaded, set again and again, and cleared, and rows without; they are packed as a list is."""
    handed = pack([text.encode() for text in first])
    before, loaded, listed = [part.tolist() for part in handed], Texts(*handed), list(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.arrays.texts, "_SLACK", slack)
        for row, text in later:
            loaded.grow(row + 1)
            listed += [""] * (row + 1 - len(listed))
            loaded[row] = listed[row] = text
            assert loaded._used <= 2 * sum(len(each.encode()) for each in listed) + slack
        rows = np.array([row for row in sorted(cleared) if row < len(listed)], np.int64)
        assert loaded.of(rows) == [listed[row] for row in rows]
        assert loaded.filled(rows).tolist() == [bool(listed[row]) for row in rows]
        loaded.clear(rows)
        listed = ["" if row in cleared else text for row, text in enumerate(listed)]
        assert loaded._used <= 2 * sum(len(each.encode()) for each in listed) + slack
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
