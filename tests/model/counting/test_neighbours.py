import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from model.counting.neighbours import FADE, ITEMS, NEAREST, RECENT, SLOTS, WAYS, Neighbours, keep, nearest, slot_of

ROWS = 30
TAKINGS = st.lists(st.tuples(st.integers(1, WAYS + 2), st.integers(0, ROWS - 1)), max_size=120)


def filled(takings: Sequence[tuple[int, int]], slots: int = WAYS) -> Neighbours:
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


def lists(takings: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the last distinct items of each user, latest first, of the users who have taken something last."""
    items: dict[int, list[int]] = {}
    for user, item in takings:
        own = items.pop(user, [])
        while len(items) >= WAYS:
            del items[next(iter(items))]
        items[user] = [item, *(i for i in own if i != item)][:ITEMS]
    return items


@given(TAKINGS, st.lists(st.integers(0, ROWS - 1), max_size=ITEMS))
@settings(deadline=None)
def test_the_similarity_is_that_of_the_formula(takings: list[tuple[int, int]], last: list[int]) -> None:
    """Over all users who share an item; histories end, and a new user takes the place of the one who was there last."""
    weights = {i: FADE ** last.index(i) for i in last}
    kept = filled(takings)
    wanted = {
        slot_of(np.uint64(user), kept.histories): sum(weights.get(i, 0.0) for i in own) / math.sqrt(len(own))
        for user, own in lists(takings).items()
        if weights.keys() & set(own)
    }
    found = asked(kept, last)
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
    assert asked(kept, [1]) == [(0, 1.0)]
    kept.forget_users(np.array([1, 5], np.uint64))  # 5 is unknown
    assert asked(kept, [1]) == []
    assert kept.state()["users"].tolist() == [2]
    assert asked(kept, [2]) == [(1, 1.0)]


def test_a_user_who_is_new_brings_a_history() -> None:
    """One who comes back is whole again; one who is there keeps what is there."""
    kept = filled([])
    take([(1, 3)], kept, [2, 1])
    assert [slot for slot, _ in asked(kept, [1])] == [0]
    take([(1, 4)], kept, [9])
    assert asked(kept, [9]) == []
    assert asked(kept, [1], without=slot_of(np.uint64(1), kept.histories)) == []


def test_only_the_nearest_of_the_latest_takers_count() -> None:
    """An item's first takers are not met by it, and of those who are the most similar count."""
    many = NEAREST + RECENT // 2
    kept = filled([(1, 0), *((user, item) for user in range(2, 2 + many) for item in (0, 1))], SLOTS)
    first = slot_of(np.uint64(1), kept.histories)
    assert len(asked(kept, [0])) == min(NEAREST, RECENT)
    assert first not in dict(asked(kept, [0]))
    take([(1, 0)], kept)
    assert asked(kept, [0])[0] == (first, 1.0)  # nobody else has nothing but this


def test_an_empty_state_costs_nothing() -> None:
    """Room for all users is not written."""
    assert sum(array.nbytes for array in Neighbours().state().values()) < 100
