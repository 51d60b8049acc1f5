import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from model.counting.neighbours import FADE, ITEMS, NEAREST, RECENT, SLOTS, Neighbours, keep, nearest

ROWS = 30
SMALL = 4  # slots, so that users meet in one
TAKINGS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, ROWS - 1)), max_size=120)


def filled(takings: Sequence[tuple[int, int]], slots: int = SMALL) -> Neighbours:
    """Return what is kept of users who take items, one after the other, none of them with a history."""
    found = Neighbours(slots)
    found.grow(ROWS)
    take(takings, found)
    return found


def take(takings: Sequence[tuple[int, int]], into: Neighbours, history: Sequence[int] = ()) -> None:
    for user, item in takings:
        keep(np.uint64(user), item, padded(history), into.histories)


def padded(items: Sequence[int]) -> np.ndarray:
    return np.array([*items, *[-1] * (ITEMS - len(items))])


def asked(found: Neighbours, items: Sequence[int], without: int = -1) -> list[tuple[int, float]]:
    slots, similar = nearest(without, padded(items), found.histories, found.memory())
    return list(zip(slots.tolist(), similar.tolist(), strict=True))


def lists(takings: Sequence[tuple[int, int]], slots: int = SMALL) -> dict[int, list[int]]:
    """Return the last distinct items of the user in each slot, latest first."""
    users: dict[int, int] = {}
    items: dict[int, list[int]] = {}
    for user, item in takings:
        slot = user % slots
        own = items.get(slot, []) if users.get(slot) == user else []
        users[slot], items[slot] = user, [item, *(i for i in own if i != item)][:ITEMS]
    return items


@given(TAKINGS, st.lists(st.integers(0, ROWS - 1), max_size=ITEMS))
@settings(deadline=None)
def test_the_similarity_is_that_of_the_formula(takings: list[tuple[int, int]], last: list[int]) -> None:
    """Over all users who share an item; histories end after so many items, and a new user takes a slot over."""
    weights = {i: FADE ** last.index(i) for i in last}
    wanted = {
        slot: sum(weights.get(i, 0.0) for i in own) / math.sqrt(len(own))
        for slot, own in lists(takings).items()
        if weights.keys() & set(own)
    }
    found = asked(filled(takings), last)
    assert dict(found) == pytest.approx(wanted)
    assert len(found) == len(wanted)


@given(TAKINGS, TAKINGS, st.sets(st.integers(0, ROWS - 1)))
@settings(deadline=None)
def test_a_restored_state_goes_on_to_the_same_bits(
    before: list[tuple[int, int]], then: list[tuple[int, int]], dead: set[int]
) -> None:
    """Also after items have died; the neighbours come in the same order."""
    kept = filled(before)
    kept.forget(np.array(sorted(dead), np.int64))
    restored = Neighbours.from_state({name: array.copy() for name, array in kept.state().items()})
    for each in (kept, restored):
        take(then, each, [3])
    one, other = kept.state(), restored.state()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    for item in range(ROWS):
        assert asked(kept, [item]) == asked(restored, [item])


def test_what_has_died_or_is_forgotten_is_in_no_history() -> None:
    """Neither items nor users come back with what they were, and others keep their own."""
    kept = filled([(1, 0), (1, 1), (2, 0), (2, 2)])
    kept.forget(np.array([0, ROWS + 5]))
    assert asked(kept, [0]) == []
    assert asked(kept, [1]) == [(1, 1.0)]
    kept.forget_users(np.array([1, 5], np.uint64))  # 5 has no slot: user 1 has it
    assert asked(kept, [1]) == []
    assert kept.state()["users"].tolist() == [2]
    assert asked(kept, [2]) == [(2, 1.0)]


def test_a_user_who_is_new_brings_a_history() -> None:
    """One who comes back is whole again; one who is there keeps what is there."""
    kept = filled([])
    keep(np.uint64(1), 3, padded([2, 1]), kept.histories)
    assert [slot for slot, _ in asked(kept, [1])] == [1]
    keep(np.uint64(1), 4, padded([9]), kept.histories)
    assert asked(kept, [9]) == []
    assert asked(kept, [1], without=1) == []


def test_only_the_nearest_of_the_latest_takers_count() -> None:
    """An item's first takers are not met by it, and of those who are the most similar count."""
    many = NEAREST + RECENT // 2
    kept = filled([(1, 0), *((user, item) for user in range(2, 2 + many) for item in (0, 1))], SLOTS)
    assert len(asked(kept, [0])) == min(NEAREST, RECENT)
    assert 1 not in dict(asked(kept, [0]))
    keep(np.uint64(1), 0, padded([]), kept.histories)
    assert asked(kept, [0])[0] == (1, 1.0)  # nobody else has nothing but this


def test_an_empty_state_costs_nothing() -> None:
    """Room for all users is not written."""
    assert sum(array.nbytes for array in Neighbours().state().values()) < 100
