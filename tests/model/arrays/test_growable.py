import copy
import doctest
import pickle
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from model.arrays import growable
from model.arrays.growable import have_room, lengthen

ROW = (2,)
schedules = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.integers(1, 400)),
        st.tuples(st.sampled_from(["hold", "drop", "deep copy", "pickle"]), st.just(0)),
    ),
    max_size=12,
)


@pytest.fixture(autouse=True, scope="module")
def _every_size_is_mapped() -> Iterator[None]:
    with patch.object(growable, "LEAST", 64):
        yield


def mapping(parts: dict[str, Any]) -> object:
    """Return the mapping that an array lies in, None for ordinary memory."""
    return growable._maps.get(growable._address(parts["array"]))


def mapped(rows: int) -> dict[str, Any]:
    parts: dict[str, Any] = {"array": np.arange(2)}
    lengthen(parts, rows, "array")
    parts["array"][:] = np.arange(rows)
    return parts


@given(st.integers(0, 9), st.integers(0, 30), st.sampled_from([0, 1 << 30]))
def test_rows_stay_and_room_at_least_doubles(has: int, wants: int, least: int) -> None:
    """The rows are kept, new rows are zeros, and an array that is long enough is not copied, mapped or not."""
    parts = {"array": (array := np.arange(2 * has).reshape(has, 2))}
    with patch.object(growable, "LEAST", least):
        have_room(parts, wants, "array")
    grown = parts["array"]
    assert np.array_equal(grown[:has], array)
    assert not grown[has:].any()
    assert grown.dtype == array.dtype
    assert grown is array if wants <= has else len(grown) == max(wants, 2 * has)


@given(schedules)
@settings(max_examples=60, deadline=None)
def test_any_schedule_of_growth_equals_a_list(schedule: list[tuple[str, int]]) -> None:
    """Whatever is held meanwhile, and copied; a view reads what it read, wherever the array has gone."""
    parts: dict[str, Any] = {"array": np.empty((0, *ROW))}
    rows: list[int] = []
    views: list[tuple[Any, int]] = []
    for what, count in schedule:
        if what == "rows":
            have_room(parts, len(rows) + count, "array")
            parts["array"][len(rows) : len(rows) + count] = np.arange(len(rows), len(rows) + count)[:, None]
            rows += range(len(rows), len(rows) + count)
        elif what == "hold":
            views.append((parts["array"][: len(rows)], len(rows)))
        elif what == "drop":
            views.clear()
        else:
            parts = copy.deepcopy(parts) if what == "deep copy" else pickle.loads(pickle.dumps(parts))
        assert parts["array"][: len(rows), 0].tolist() == rows
        assert not parts["array"][len(rows) :].any()
        for view, length in views:
            assert view[:, 1].tolist() == rows[:length]


@pytest.mark.skipif(not growable._MAPS, reason="memory is remapped on Linux")
def test_an_array_that_nobody_holds_grows_in_place() -> None:
    """In the mapping that it has, many times over: nothing is copied."""
    parts = mapped(1000)
    memory = mapping(parts)
    assert memory is not None
    for rows in (1001, 100_000, 3_000_000):
        lengthen(parts, rows, "array")
        assert mapping(parts) is memory
        assert parts["array"][:1000].tolist() == list(range(1000))
        assert len(parts["array"]) == rows
    address = growable._address(parts["array"])
    del parts, memory
    assert address not in growable._maps


def test_a_held_view_is_left_alone() -> None:
    """The array is copied, and what is written to it later is not in the view; without the view it is moved again."""
    parts = mapped(1000)
    view = parts["array"][5:7]
    lengthen(parts, 100_000, "array")
    parts["array"][:1000] = -1
    assert view.tolist() == [5, 6]
    assert len(parts["array"]) == 100_000
    del view
    memory = mapping(parts)
    lengthen(parts, 200_000, "array")
    assert mapping(parts) is memory


@pytest.mark.parametrize("other", ["part", "columns", "bytes"])
def test_what_is_not_a_whole_mapping_is_copied(other: str) -> None:
    """A part of an array, another order or type of it: rows after it may hold anything."""
    array = mapped(1000)["array"]
    other_array = {"part": array[:400], "columns": array.reshape(2, 500).T, "bytes": array.view(np.uint8)[:99]}[other]
    before, parts = other_array.tolist(), {"array": other_array}
    del array, other_array
    have_room(parts, len(before) + 1, "array")
    assert parts["array"][: len(before)].tolist() == before
    assert not parts["array"][len(before) :].any()


@pytest.mark.parametrize("rows", [2**44, 2**58])
def test_room_that_does_not_exist_changes_nothing(rows: int) -> None:
    """An array keeps what it holds, and grows on."""
    for parts in (mapped(1000), {"array": np.arange(1000)}):
        with pytest.raises(MemoryError):
            lengthen(parts, rows, "array")
        assert parts["array"].tolist() == list(range(1000))
        lengthen(parts, 2000, "array")
        assert parts["array"][:1000].tolist() == list(range(1000))


def test_the_docstring_is_true() -> None:
    """The example runs as it says."""
    assert doctest.testmod(growable).failed == 0
