"""Timers: they come out in order, whatever is in memory and what in the store alone."""

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, strategies as st

from stream.join import timers as module
from stream.join.timers import Timers
from stream.schema.tokens import END_OF_TIME_MS
from stream.store import layout
from stream.store.layout import Timer
from tests.memory_store import MemoryStore

STEPS = ("set", "set", "set", "cancel", "pop", "pop", "write", "open again")
numbered = st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(1, 2), st.integers(0, 2))


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """Three timers are read at once, and six kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_READ", 3)
        patch.setattr(module, "_MOST", 6)
        yield


def stored(store: MemoryStore) -> set[Timer]:
    return {layout.parse_timer(key) for key, _ in store.scan(layout.TIMER)}


@given(st.lists(st.tuples(st.sampled_from(STEPS), numbered)))
def test_they_come_in_order_through_writes_and_restarts(steps: list[tuple[str, Timer]]) -> None:
    """Against a set: none is lost, and the store has exactly those that are set; one that is not any more may come."""
    store = MemoryStore({})
    timers, alive = Timers(store), set[Timer]()
    for step, timer in steps:
        if step == "set":
            timers.set(*timer)
            alive.add(timer)
        elif step == "cancel" and timer in alive:
            timers.cancel(*timer)
            alive.remove(timer)
        elif step == "pop" and timers.next_ms < END_OF_TIME_MS:
            next_ms, popped = timers.next_ms, timers.pop()
            assert popped[0] == next_ms
            assert popped <= min(alive, default=popped)
            alive.discard(popped)
        elif step in ("write", "open again"):
            store.write(timers.write_back())
            assert stored(store) == alive
        if step == "open again":
            timers = Timers(store)
    left = []
    while timers.next_ms < END_OF_TIME_MS:
        left.append(timers.pop())
    assert left == sorted(left)
    assert alive <= set(left)


def test_most_of_many_are_in_the_store_alone() -> None:
    """However many are set: between batches a few are in memory, and opening reads the first of them."""
    store = MemoryStore({})
    timers = Timers(store)
    for n in range(1000):
        timers.set(n * 7919 % 1000, 0, 1, n)
    store.write(timers.write_back())
    assert (len(timers), len(store.data)) == (3, 1000)
    again = Timers(store)
    assert len(again) == 3
    drawn = iter(again.pop, None)
    assert [timer[0] for timer in islice(drawn, 1000)] == list(range(1000))
