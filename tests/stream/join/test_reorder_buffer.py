"""The reorder buffer and its watermark: what waits, in which order it leaves, and what the disk holds."""

from contextlib import nullcontext

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


@given(st.lists(st.tuples(st.sampled_from(STEPS), clicks)))
def test_instants_leave_in_order_and_the_disk_holds_what_waits(steps: list[tuple[str, tuple[int, str, str]]]) -> None:
    """Against a sorted list, whatever is added, popped, written and loaded again in between."""
    store, waiting = MemoryStore({}), list[BufferedEvent]()
    buffer = ReorderBuffer()
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
            buffer = ReorderBuffer(store.scan(layout.WAITING))
        assert len(buffer) == len(waiting)
    assert buffer.next_ms == min((one.event.ts_ms for one in waiting), default=END_OF_TIME_MS)


def test_an_event_behind_its_own_topic_is_late() -> None:
    """One as far behind as the lateness may wait, one a millisecond older is refused; other topics do not matter."""
    watermark = Watermark(10)
    assert watermark.move(A, 60)
    assert not watermark.move(A, 60)
    watermark.refuse_late(A, 50)
    watermark.refuse_late(S, 0)
    with pytest.raises(RefusedError, match="late: ts 49 lies 1 ms behind what actions may still bring"):
        watermark.refuse_late(A, 49)


def test_after_the_end_of_the_log_everything_is_late_and_says_so() -> None:
    """By how much would be the distance to the end of time."""
    watermark = Watermark(10)
    assert watermark.move(A, END_OF_TIME_MS)
    with pytest.raises(RefusedError, match="late: ts 49 comes after a replay has ended the log of actions"):
        watermark.refuse_late(A, 49)


def test_what_was_joined_stays_joined_if_the_lateness_is_raised() -> None:
    """The watermark that a store has reached refuses what a longer lateness would let in."""
    watermark = Watermark(50, [60, 60, 60], at_ms=50)
    assert watermark.advance() == 50
    with pytest.raises(RefusedError, match="late: ts 49"):
        watermark.refuse_late(A, 49)


@given(st.integers(0, 9), st.lists(st.tuples(st.sampled_from([S, A, T]), st.integers(0, 99), st.booleans())))
def test_no_accepted_event_precedes_the_watermark(lateness: int, steps: list[tuple[SourceTopic, int, bool]]) -> None:
    """Whatever topics bring in whatever order: the watermark is the least clock less the lateness; it never falls."""
    watermark, high, before = Watermark(lateness), dict.fromkeys([S, A, T], NEVER_MS), NEVER_MS
    for source, ts_ms, advance in steps:
        late = ts_ms < high[source] - lateness
        with pytest.raises(RefusedError) if late else nullcontext():
            watermark.refuse_late(source, ts_ms)
        if not late:
            assert ts_ms >= watermark.at_ms
            watermark.move(source, ts_ms)
            high[source] = max(high[source], ts_ms)
        if advance:
            least = min(high.values())
            assert watermark.advance() == (least - lateness if least > NEVER_MS else NEVER_MS) >= before
            before = watermark.at_ms
