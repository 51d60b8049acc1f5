import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from model.data.event_time import is_end
from model.errors import ModelError
from model.trainer.merge import BEGINNING_MS, Merge, Placed
from stream.example import END_OF_TIME_MS, decode
from tests.factories import Record, make_examples


def example_of(partition: int, serial: int, final_ms: int):
    """Make a bare example by changing one of the factory's."""
    made = decode(make_examples(count=1, partitions=1)[0][0].value)
    return replace(made, partition=partition, serial=serial, final_ms=final_ms)


def drain(merge: Merge) -> list[tuple[int, str, int, int]]:
    """Pop whatever can leave."""
    out = []
    while (placed := merge.pop()) is not None:
        out.append((placed.place_ms, placed.topic, placed.partition, placed.offset))
    return out


entries = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=8)


@given(st.lists(entries, min_size=1, max_size=3), st.lists(entries, max_size=2), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_any_interleaving_gives_the_order_of_sorting_everything(examples, items, seed) -> None:
    """However the queues interleave and whenever one pops, the sequence is the sorted one; True is a heartbeat."""
    logs = [("examples", p, log) for p, log in enumerate(examples)]
    logs += [("items", p, log) for p, log in enumerate(items)]
    expected, queues = [], []
    for topic, p, log in logs:
        clock = BEGINNING_MS
        for offset, (beat, time) in enumerate(log):
            clock = max(clock, time)
            if not beat:
                expected.append((clock, 0 if topic == "items" else 1, p, offset, topic))
        queues.append([(topic, p, offset, *entry) for offset, entry in enumerate([*log, (True, END_OF_TIME_MS)])])
    merge, rng, got, serials = Merge(len(examples), len(items)), random.Random(seed), [], {}
    while left := [queue for queue in queues if queue]:
        topic, p, offset, beat, time = rng.choice(left).pop(0)
        if beat:
            merge.beat(topic, p, time)
        elif topic == "items":
            merge.put_item(p, offset, time, None)
        else:
            serials[p] = serials.get(p, 0) + 1
            merge.put_example(offset, example_of(p, serials[p], time))
        if rng.random() < 0.5:
            got += drain(merge)
    got += drain(merge)
    assert got == [(place, topic, p, offset) for place, _, p, offset, topic in sorted(expected)]
    assert merge.ended
    assert merge.pending == 0


def feed(merge: Merge, records: Sequence[Record]) -> None:
    """Put one partition of examples in."""
    for record in records:
        message = decode(record.value)
        if hasattr(message, "serial"):
            merge.put_example(record.offset, message, record.value)
        else:
            merge.beat("examples", message.partition, message.watermark_ms)


def test_nothing_leaves_before_every_partition_has_passed_it() -> None:
    """An example waits for the partition that is behind, even at the same time, and for the catalogue."""
    merge = Merge(2, 1)
    merge.put_example(0, example_of(0, 1, 10))
    merge.beat("examples", 0, 20)
    merge.beat("items", 0, 10)
    assert merge.pop() is None
    merge.beat("examples", 1, 11)
    assert merge.pop() is None, "a catalogue record of time 10 would precede it"
    merge.beat("items", 0, 11)
    assert merge.pop() is not None
    assert merge.watermark_ms == 11


def test_an_idle_partition_holds_nobody_back_and_its_late_example_leaves_at_once() -> None:
    """The others do not wait for an idle partition; what it brings afterwards is counted as late."""
    merge = Merge(2)
    merge.put_example(0, example_of(0, 1, 10))
    merge.beat("examples", 0, 20)
    assert merge.pop() is None
    merge.ignore("examples", 1)
    assert drain(merge) == [(10, "examples", 0, 0)]
    merge.wait_for("examples", 1)
    merge.put_example(0, example_of(1, 1, 5))
    merge.beat("examples", 1, 20)
    assert drain(merge) == [(5, "examples", 1, 0)]
    assert merge.late == 1
    assert not merge.ended


def test_when_all_are_idle_everything_leaves_but_nothing_has_ended() -> None:
    """Idle partitions may bring records again, so it has not ended; an idle catalogue does not matter."""
    merge = Merge(1, 1)
    merge.put_example(0, example_of(0, 1, 10))
    merge.ignore("examples", 0)
    merge.ignore("items", 0)
    assert drain(merge) == [(10, "examples", 0, 0)]
    assert not merge.ended
    merge.beat("examples", 0, END_OF_TIME_MS)
    assert merge.ended


def test_a_late_catalogue_record_takes_the_next_place_and_is_counted() -> None:
    """A record that is older than its partition's clock takes the clock's time."""
    merge = Merge(1, 1)
    merge.put_item(0, 0, 50, "a")
    merge.put_item(0, 1, 40, "b")
    merge.beat("items", 0, 51)
    merge.beat("examples", 0, 51)
    assert drain(merge) == [(50, "items", 0, 0), (50, "items", 0, 1)]
    assert merge.late == 1


def test_a_late_record_is_counted_once() -> None:
    """It lies behind its own partition's clock, and behind what left while its partition was idle."""
    merge = Merge(1, 1)
    merge.beat("items", 0, 50)
    merge.ignore("items", 0)
    merge.put_example(0, example_of(0, 1, 1000))
    merge.beat("examples", 0, 2000)
    assert drain(merge) == [(1000, "examples", 0, 0)]
    merge.wait_for("items", 0)
    merge.put_item(0, 0, 40, None)
    merge.ignore("items", 0)
    assert drain(merge) == [(50, "items", 0, 0)]
    assert merge.late == 1


def test_a_catalogue_record_after_the_end_leaves_at_once() -> None:
    """The last heartbeat of a replayed catalogue does not exclude records that are added later."""
    merge = Merge(1, 1)
    merge.beat("items", 0, END_OF_TIME_MS)
    merge.beat("examples", 0, END_OF_TIME_MS - 30_000)
    merge.put_item(0, 1, 40, "b")
    assert [p.value for p in iter(merge.pop, None)] == ["b"]


def test_repeats_are_ignored_and_a_gap_is_refused() -> None:
    """A worker that died before Kafka's answer sends twice; a missing serial is data lost, and reported."""
    merge = Merge(1)
    for offset, serial in enumerate([1, 2, 2, 1, 3]):
        merge.put_example(offset, example_of(0, serial, 10 + serial))
    assert merge.repeats == 2
    with pytest.raises(ModelError, match=r"Partition 0 of examples goes from serial 3 to 6 at offset 9: 2 examples"):
        merge.put_example(9, example_of(0, 6, 20))


def test_an_old_serial_with_a_later_time_is_refused() -> None:
    """A store that was made again numbers its examples from 1; taken for repeats, they would be lost in silence."""
    merge = Merge(1)
    for serial in (1, 2, 3):
        merge.put_example(serial, example_of(0, serial, 10 * serial))
    merge.put_example(4, example_of(0, 1, 30))
    sentence = r"store of partition 0 was made again.*and 2 at offset 5 .* is a new one, though 3 were read.*--name"
    with pytest.raises(ModelError, match=sentence):
        merge.put_example(5, example_of(0, 2, 31))
    assert (merge.repeats, merge.pending) == (1, 3)


def test_repeats_are_recognised_after_a_resume_too() -> None:
    """A queue restored at a waiting example has the clock of those before it, which may come once more."""
    merge = Merge(1)
    for serial in (1, 2, 3):
        merge.put_example(serial, example_of(0, serial, 10 * serial))
    again = Merge(1)
    again.restore("examples", 0, merge.queues["examples"][0].waiting[2].before_ms, 2)
    for offset, serial in enumerate([2, 1, 3]):
        again.put_example(offset, example_of(0, serial, 10 * serial))
    assert (again.repeats, again.pending) == (2, 1)


def test_a_fresh_queue_begins_where_the_log_begins() -> None:
    """A trainer that starts after retention has deleted the first examples begins with the oldest one left."""
    merge = Merge(1)
    merge.put_example(100, example_of(0, 71, 10))
    merge.put_example(101, example_of(0, 72, 10))
    assert merge.pending == 2


def test_a_restored_queue_gives_the_same_places() -> None:
    """Reading starts again from a waiting record and the clock before it, although a heartbeat had raised the clock."""
    merge = Merge(1, 1)
    for offset, ts_ms in enumerate([30, 10, 20]):
        merge.put_item(0, offset, ts_ms, offset)
    merge.beat("items", 0, 90)
    merge.beat("examples", 0, 95)
    assert isinstance(first := merge.pop(), Placed)
    rest = merge.queues["items"][0].waiting[0]
    again = Merge(1, 1)
    again.restore("items", 0, rest.before_ms, 0)
    for offset, ts_ms in list(enumerate([30, 10, 20]))[1:]:
        again.put_item(0, offset, ts_ms, offset)
    again.beat("items", 0, 90)
    again.beat("examples", 0, 95)
    assert first.offset == 0
    assert drain(again) == drain(merge) == [(30, "items", 0, 1), (30, "items", 0, 2)]


@pytest.mark.parametrize(("watermark_ms", "end"), [(END_OF_TIME_MS - 3_600_000, True), (4_000_000_000_000, False)])
def test_the_end_of_time_is_recognised_whatever_the_lateness(watermark_ms: int, end: bool) -> None:
    """Workers subtract their lateness from the last heartbeat; no event of our time comes near it."""
    assert is_end(watermark_ms) is end


def test_factory_streams_are_ordered() -> None:
    """The factory's partitions come out of the merge as one sequence by final time, all of them."""
    merge = Merge(3)
    for log in make_examples(count=50, partitions=3):
        feed(merge, log)
    places = [place for place, *_ in drain(merge)]
    assert places == sorted(places)
    assert len(places) == 50


def test_only_a_partition_that_is_ahead_may_be_paused() -> None:
    """What waits for others counts; a partition that the others wait for has 0, even if its records are of one time."""
    merge = Merge(2)
    for serial in (1, 2, 3):
        merge.put_example(serial, example_of(0, serial, 10))
    assert merge.ahead("examples", 0) == 3
    merge.put_example(0, example_of(1, 1, 10))
    assert (merge.ahead("examples", 0), merge.ahead("examples", 1)) == (0, 0)
    merge.beat("examples", 0, 20)
    assert (merge.ahead("examples", 0), merge.ahead("examples", 1)) == (3, 0)
