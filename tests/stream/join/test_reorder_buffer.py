"""The reorder buffer and its watermark: what waits, in which order it leaves, and what the disk holds."""

import pytest
from hypothesis import given, strategies as st

from stream.join.reorder_buffer import NEVER_MS, BufferedEvent, ReorderBuffer, Watermark
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_event
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.memory_store import MemoryStore
from tests.wire import action, wire

S, A, T = SourceTopic
times = st.integers(0, 6)
clicks = st.tuples(times, st.sampled_from("uvw"), st.sampled_from("abc"))
STEPS = ("add", "add", "pop", "write", "open again")


def buffered(ts: int, user: str, item: str, offset: int) -> BufferedEvent:
    value = wire(action(user, item, ts))
    event = decode_event(A, value, max_slate=None, now_ms=None)
    assert not isinstance(event, int)
    return BufferedEvent(event, A, offset, value)


def never_late() -> Watermark:
    return Watermark(0)


@given(st.lists(st.tuples(st.sampled_from(STEPS), clicks)))
def test_instants_leave_in_order_and_the_disk_holds_what_waits(steps: list[tuple[str, tuple[int, str, str]]]) -> None:
    """Against a sorted list, whatever is added, popped, written and loaded again in between."""
    store, waiting = MemoryStore({}), list[BufferedEvent]()
    buffer = ReorderBuffer(never_late())
    for offset, (step, click) in enumerate([*steps, ("write", (0, "u", "a"))]):
        if step == "add":
            waiting.append(buffered(*click, offset))
            buffer.add(buffered(*click, offset))
        elif step == "pop" and waiting:
            first_ms = min(one.event.ts_ms for one in waiting)
            assert buffer.next_ms == first_ms
            due = sorted((one for one in waiting if one.event.ts_ms == first_ms), key=lambda one: one.sort_key)
            assert [one.sort_key for one in buffer.pop()] == [one.sort_key for one in due]
            waiting = [one for one in waiting if one.event.ts_ms != first_ms]
        elif step in ("write", "open again"):
            store.write(buffer.write_back())
            assert store.data == {one.key: one.value for one in waiting}
        if step == "open again":
            buffer = ReorderBuffer(never_late(), store.scan(layout.WAITING))
        assert len(buffer) == len(waiting)
    assert buffer.next_ms == min((one.event.ts_ms for one in waiting), default=END_OF_TIME_MS)


def test_an_event_behind_the_watermark_is_late() -> None:
    """One at the watermark may still wait; one a millisecond older is refused, and counts as seen all the same."""
    watermark = Watermark(10, at_ms=50)
    buffer = ReorderBuffer(watermark)
    buffer.add(buffered(50, "u", "a", 0))
    with pytest.raises(RefusedError, match="late: ts 49 lies 1 ms behind the watermark"):
        buffer.add(buffered(49, "u", "a", 1))
    assert len(buffer) == 1
    assert watermark.high_ms == [NEVER_MS, 50, NEVER_MS]


@given(st.lists(st.tuples(st.sampled_from([S, A, T]), st.integers(0, 99), st.sets(st.sampled_from([S, A, T])))))
def test_the_watermark_is_the_least_of_the_busy_topics_and_never_falls(
    steps: list[tuple[SourceTopic, int, set[SourceTopic]]],
) -> None:
    """Against the rule by hand, after each time shown; where all topics are idle the furthest decides."""
    watermark, high, before = Watermark(5), dict.fromkeys([S, A, T], NEVER_MS), NEVER_MS
    for source, ts_ms, idle in steps:
        watermark.saw(source, ts_ms)
        high[source] = max(high[source], ts_ms)
        busy = [high[each] for each in high if each not in idle] or [max(high.values())]
        expected = max(before, min(busy) - 5) if min(busy) > NEVER_MS else before
        assert watermark.advance(idle) == watermark.at_ms == expected
        before = expected
