import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from model.data.event_time import is_end
from model.errors import ModelError
from model.trainer.merge import BEGINNING_MS, Merge, Placed
from stream.example import END_OF_TIME_MS, NO_PARENT, Example, decode, encode_example, message_digest
from tests.factories import Record, make_examples
from tests.strategies import tries


def example_of(partition: int, serial: int, final_ms: int) -> Example:
    """Make a bare example by changing one of the factory's."""
    made = decode(make_examples(count=1, partitions=1)[0][0].value or b"")
    assert isinstance(made, Example)
    return replace(made, partition=partition, serial=serial, final_ms=final_ms)


def put(merge: Merge, partition: int, offset: int, serial: int, final_ms: int) -> None:
    """Put in an example whose parent is what was put in before, whatever its serial."""
    parent = merge.queues["examples"][partition].digest
    example = replace(example_of(partition, serial, final_ms), parent=parent)
    merge.put_example(offset, example, encode_example(example))


def chain(finals_ms: Sequence[int]) -> list[tuple[Example, bytes]]:
    """Return the examples of one partition, with serials from 1, and their messages."""
    made: list[tuple[Example, bytes]] = []
    for serial, final_ms in enumerate(finals_ms, 1):
        parent = message_digest(made[-1][1]) if made else NO_PARENT
        example = replace(example_of(0, serial, final_ms), parent=parent)
        made.append((example, encode_example(example)))
    return made


def put_all(merge: Merge, offset: int, log: Sequence[tuple[Example, bytes]]) -> None:
    """Put in messages from an offset on."""
    for at, (example, message) in enumerate(log, offset):
        merge.put_example(at, example, message)


def drain(merge: Merge) -> list[tuple[int, str, int, int]]:
    """Pop whatever can leave."""
    out = []
    while (placed := merge.pop()) is not None:
        out.append((placed.place_ms, placed.topic, placed.partition, placed.offset))
    return out


entries = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=8)


@given(st.lists(entries, min_size=1, max_size=3), st.lists(entries, max_size=2), st.integers(0, 2**32))
@settings(max_examples=tries(200), deadline=None)
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
            put(merge, p, offset, serials[p], time)
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
    put(merge, 0, 0, 1, 10)
    merge.beat("examples", 0, 20)
    merge.beat("items", 0, 10)
    assert merge.pop() is None
    merge.beat("examples", 1, 11)
    assert merge.pop() is None, "a catalogue record of time 10 would precede it"
    merge.beat("items", 0, 11)
    assert merge.pop() is not None
    assert merge.watermark_ms == 11


def test_all_wait_for_the_partition_that_is_furthest_behind() -> None:
    """However long it takes; it is named as long as something waits for it."""
    merge = Merge(2, 1)
    assert merge.waits_for is None
    put(merge, 0, 0, 1, 10)
    merge.beat("items", 0, 20)
    assert merge.pop() is None
    assert merge.waits_for is merge.queues["examples"][1]
    merge.beat("examples", 1, 20)
    assert merge.waits_for is merge.queues["examples"][0]
    merge.beat("examples", 0, 20)
    assert merge.waits_for is None
    assert merge.pop() is not None


def test_a_late_catalogue_record_takes_the_next_place_and_is_counted() -> None:
    """A record that is older than its partition's clock takes the clock's time."""
    merge = Merge(1, 1)
    merge.put_item(0, 0, 50, "a")
    merge.put_item(0, 1, 40, "b")
    merge.beat("items", 0, 51)
    merge.beat("examples", 0, 51)
    assert drain(merge) == [(50, "items", 0, 0), (50, "items", 0, 1)]
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
    merge, log = Merge(1), chain([11, 12, 13, 14, 15, 16])
    for offset, serial in enumerate([1, 2, 2, 1, 3]):
        merge.put_example(offset, *log[serial - 1])
    assert merge.repeats == 2
    with pytest.raises(ModelError, match=r"Partition 0 of examples goes from serial 3 to 6 at offset 9: 2 examples"):
        merge.put_example(9, *log[5])


@pytest.mark.parametrize("upto", [0, 1, 2])
def test_an_example_of_another_log_is_refused(upto: int) -> None:
    """Logs that differ anywhere are told apart at the last serial known, or at the first new one: it is not taken."""
    merge, log = Merge(1), chain([10, 20, 30])
    other = chain([*[10, 20, 30][:upto], 11 + 10 * upto, *[20, 30, 40][upto:]])
    put_all(merge, 0, log)
    with pytest.raises(ModelError, match=r"belongs to another log than the 3 .*--weights-from OLD --since 31"):
        put_all(merge, 3, other)
    assert merge.pending == 3


def test_the_next_example_of_another_log_is_refused_without_a_repeat() -> None:
    """Kafka has lost an example that was trained on, and its worker's store too: the next one has another parent."""
    merge, log, other = Merge(1), chain([10, 20, 30]), chain([10, 21, 31, 41])
    queue = merge.restore("examples", 0, 30)
    queue.serial, queue.digest, queue.final_ms = 3, message_digest(log[2][1]), 30
    with pytest.raises(ModelError, match=r"Example 4 at offset 3 of examples, partition 0, belongs to another log"):
        merge.put_example(3, *other[3])


def test_an_old_serial_with_a_later_time_is_refused() -> None:
    """A store that was made again numbers its examples from 1; taken for repeats, they would be lost in silence."""
    merge = Merge(1)
    for example, message in chain([10, 20, 30]):
        merge.put_example(example.serial, example, message)
    other = chain([30, 31])
    merge.put_example(4, *other[0])
    with pytest.raises(ModelError, match=r"Example 2 at offset 5 of examples.*belongs to another log than the 3 read"):
        merge.put_example(5, *other[1])
    assert (merge.repeats, merge.pending) == (1, 3)


def test_repeats_are_recognised_after_a_resume_too() -> None:
    """A queue restored at a waiting example has the clock of those before it, which may come once more."""
    merge, log = Merge(1), chain([10, 20, 30])
    for example, message in log:
        merge.put_example(example.serial, example, message)
    waiting = merge.queues["examples"][0].waiting[2]
    again = Merge(1)
    queue = again.restore("examples", 0, waiting.before_ms)
    queue.serial, queue.digest, queue.final_ms = 2, waiting.value[0].parent, waiting.before_ms
    for offset, serial in enumerate([2, 1, 3]):
        again.put_example(offset, *log[serial - 1])
    assert (again.repeats, again.pending) == (2, 1)


def test_a_fresh_queue_begins_where_the_log_begins() -> None:
    """A trainer that starts after retention has deleted the first examples begins with the oldest one left."""
    merge = Merge(1)
    put(merge, 0, 100, 71, 10)
    put(merge, 0, 101, 72, 10)
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
    again.restore("items", 0, rest.before_ms)
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
    """The bytes that wait for others; of a partition that the others wait for 0, even if all are of one time."""
    merge = Merge(2)
    for serial in (1, 2, 3):
        put(merge, 0, serial, serial, 10)
    assert merge.ahead("examples", 0) == (three := merge.pending_bytes) > 0
    put(merge, 1, 0, 1, 10)
    assert (merge.ahead("examples", 0), merge.ahead("examples", 1)) == (0, 0)
    merge.beat("examples", 0, 20)
    assert (merge.ahead("examples", 0), merge.ahead("examples", 1)) == (three, 0)


def test_large_records_count_for_more() -> None:
    """Both copies of a message in memory count, and none once it has left."""
    merge = Merge(1, 1)
    merge.put_item(0, 0, 10, "small", size=100)
    small = merge.pending_bytes
    merge.put_item(0, 1, 10, "large", size=1 << 20)
    assert merge.pending_bytes - small > 2 << 20
    merge.beat("items", 0, 20)
    merge.beat("examples", 0, 20)
    assert [placed.value for placed in iter(merge.pop, None)] == ["small", "large"]
    assert merge.pending_bytes == merge.ahead("items", 0) == merge.queues["items"][0].bytes == 0
