"""The core's one promise: the same events give the same sequences and examples, whatever the way they arrive."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from stream.errors import StoreError
from stream.example import Heartbeat, content, decode, encode_example
from stream.join import timers
from stream.join.partition import Partition
from stream.schema.ids import id_key
from stream.schema.record_time import Headers
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import DEAD_LETTERS, SourceTopic
from stream.store import layout
from stream.store.reader import read_tokens
from stream.store.rocksdb import open_store
from tests.memory_store import CrashError, MemoryStore
from tests.oracles import Wire, join
from tests.strategies import event_sets, tries
from tests.stream.join.play import END, SETTINGS, START_MS, Kafka, logs_of, play, stored_tokens
from tests.wire import REPLAYED, Record, action, impression, wire


@pytest.fixture(autouse=True, scope="module")
def few_timers() -> Iterator[None]:
    """Timers are read from the store two by two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timers, "_READ", 2)
        patch.setattr(timers, "_MOST", 4)
        yield


@hypothesis_settings(max_examples=tries(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event_sets(), st.data())
def test_any_interleaving_split_and_crash_gives_what_the_oracle_gives(
    events: dict[str, list[Wire]], data: st.DataObject
) -> None:
    """Sequences and examples equal the oracle's byte for byte, through crashes, and where commits stop half-way."""
    open_requests, user_attributes = data.draw(st.sampled_from([(1, 1), (2, 9), (1024, 256)]))
    settings = SETTINGS.model_copy(update={"open_requests": open_requests, "user_attributes": user_attributes})
    expected = join(events, settings, 0)
    logs, store, kafka = logs_of(events), MemoryStore({}), Kafka()
    partition = Partition(store, 0, settings)
    while any(partition.next_offsets[source] < len(log) for source, log in logs.items()):
        source = data.draw(st.sampled_from([s for s in SourceTopic if partition.next_offsets[s] < len(logs[s])]))
        start = max(0, partition.next_offsets[source] - data.draw(st.integers(0, 2)))
        store.crash = data.draw(st.sampled_from([None, None, None, "before", "after"]))
        try:
            most = data.draw(st.sampled_from([sys.maxsize, 1, 20]))
            partition.handle(source, logs[source][start : start + data.draw(st.integers(1, 30))], most=most)
            if partition.behind and data.draw(st.booleans()):
                partition.advance(most=most)
            fate = data.draw(st.sampled_from(["sent", "kept", "lost"]))
            if fate == "sent":
                kafka.send(partition)
            elif fate == "lost":  # Kafka has it, the store does not know
                kafka.records += partition.outbox.unsent()
        except CrashError:
            store = MemoryStore(store.data)
            partition = Partition(store, 0, settings)
    while partition.behind:
        partition.advance(most=1)
    kafka.send(partition)
    assert kafka.beats()[-1].watermark_ms == END_OF_TIME_MS - 30_000
    assert stored_tokens(store) == {user: tokens for user, tokens in expected.tokens.items() if tokens}
    assert kafka.examples() == {e.serial: content(encode_example(e)) for e in expected.examples}
    assert partition.digest == play(events, settings)[0].digest
    assert partition.waiting == 0


def test_late_events_go_to_dead_letters() -> None:
    """What the watermark has passed is refused with reason, place and raw bytes; what is within the lateness is not."""
    partition, kafka = Partition(MemoryStore({}), 0, SETTINGS), Kafka()
    beat = wire({"watermark": 100_000})
    for source in SourceTopic:
        partition.handle(source, [Record(0, beat)])
    late, in_time = wire(action("u", "a", 69_999)), wire(action("u", "b", 70_000))
    partition.handle(SourceTopic.ACTIONS, [Record(1, late, b"u"), Record(2, in_time, b"u")])
    kafka.send(partition)
    (letter,) = kafka.dead_letters()
    assert (letter["reason"], letter["topic"], letter["partition"], letter["offset"]) == ("late", "actions", "0", "1")
    assert [(r.key, r.value) for r in kafka.records if r.topic == DEAD_LETTERS] == [(b"u", late)]
    assert partition.counters.dead_letters == {"late": 1}
    assert partition.waiting == 1


def test_a_silent_topic_holds_the_others_back_until_a_heartbeat() -> None:
    """The watermark is the minimum; a heartbeat moves a topic in which nothing comes."""
    partition = Partition(MemoryStore({}), 0, SETTINGS)
    partition.handle(
        SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1_000))), Record(1, wire(action("u", "b", 90_000)))]
    )
    assert partition.counters.tokens == 0
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, wire({"watermark": 90_000}))])
    assert (partition.counters.tokens, partition.waiting, partition.watermark_ms) == (1, 1, 60_000)


@pytest.mark.parametrize(("headers", "believed", "refused"), [((), True, 1), (REPLAYED, True, 0), (REPLAYED, False, 1)])
def test_an_event_of_the_future_is_one_of_its_own_record(headers: Headers, believed: bool, refused: int) -> None:
    """Five minutes ahead of its Kafka timestamp pass, a millisecond more does not; a replayed record is believed."""
    partition = Partition(MemoryStore({}), 0, SETTINGS.model_copy(update={"replays": believed}))
    events = [action("u", "a", 1_300_000), action("u", "b", 1_300_001)]
    log = [Record(i, wire(event), timestamp=1_000_000, headers=headers) for i, event in enumerate(events)]
    partition.handle(SourceTopic.ACTIONS, log)
    assert partition.counters.dead_letters.get("future", 0) == refused
    assert partition.clock_ms(SourceTopic.ACTIONS) == (1_000_000 if refused else 1_300_001)


def test_a_smaller_max_slate_does_not_undo_what_was_accepted() -> None:
    """A slate that waits is joined after a restart with a limit below it; the next of its size is refused."""
    store, slate = MemoryStore({}), impression("u", "r", 1000, *"abcdef")
    Partition(store, 0, SETTINGS).handle(SourceTopic.IMPRESSIONS, [Record(0, wire(slate))])
    partition = Partition(store, 0, SETTINGS.model_copy(update={"max_slate": 3}))
    partition.handle(SourceTopic.IMPRESSIONS, [Record(1, wire(slate | {"request_id": "s"})), Record(2, END)])
    for source in (SourceTopic.ACTIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, END)])
    assert (partition.counters.tokens, partition.counters.dead_letters) == (6, {"long-slate": 1})


def test_a_heartbeat_in_microseconds_moves_nothing() -> None:
    """It goes to dead-letters, and so does one of the future, and the end of time, unless they are replayed."""
    partition, latest_ms = Partition(MemoryStore({}), 0, SETTINGS), START_MS + 300_000
    beats = [START_MS * 1000, latest_ms + 1, END_OF_TIME_MS, latest_ms]
    log = [Record(i, wire({"watermark": ms}), None, START_MS, ()) for i, ms in enumerate(beats)]
    partition.handle(SourceTopic.ACTIONS, log)
    assert partition.clock_ms(SourceTopic.ACTIONS) == START_MS, "no further than its Kafka timestamp"
    assert partition.counters.dead_letters == {"bad-time": 1, "future": 2}
    partition.handle(SourceTopic.ACTIONS, [Record(4, END)])
    assert partition.clock_ms(SourceTopic.ACTIONS) == END_OF_TIME_MS


class Unreadable(MemoryStore):
    """A store that fails to read one key, once."""

    bad = b""

    def get(self, key: bytes) -> bytes | None:
        if key == self.bad:
            self.bad = b""
            raise StoreError("mend the disk")
        return super().get(key)


def test_half_a_batch_is_never_committed() -> None:
    """After an error in the middle nothing more is taken or joined; the partition opened again has lost nothing."""
    store = Unreadable({})
    log = [Record(i, wire(action(f"u{i}", "a", 1000 + i))) for i in range(20)] + [Record(20, END)]
    partition = Partition(store, 0, SETTINGS)
    others = (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES)
    for source in others:
        partition.handle(source, [Record(0, END)])
    before = dict(store.data)
    store.bad = layout.user_key(id_key("u7"))
    with pytest.raises(StoreError, match="mend the disk"):
        partition.handle(SourceTopic.ACTIONS, log)
    with pytest.raises(StoreError, match=r"Partition 0 failed in the middle of a batch and must be opened again"):
        partition.advance()
    with pytest.raises(StoreError, match="must be opened again"):
        partition.handle(SourceTopic.ATTRIBUTES, [Record(1, END)])
    assert store.data == before
    partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, log[partition.next_offsets[SourceTopic.ACTIONS] :])
    assert set(stored_tokens(store)) == {id_key(f"u{i}") for i in range(20)}


def test_a_store_of_other_partitions_is_refused() -> None:
    """A user's home depends on the number of partitions."""
    _, _, store = play({})
    with pytest.raises(StoreError, match=r"made for 1 partitions.*say 2.*stream.partitions = 1"):
        Partition(store, 0, SETTINGS.model_copy(update={"partitions": 2}))


def test_it_works_on_rocksdb(tmp_path: Path) -> None:
    """The same on disk: closed and opened in mid-stream, the tail of waiting events shown to readers."""
    events = {"actions": [action("u", f"i{i}", 1000 + i) for i in range(200)]}
    expected = join(events, SETTINGS, 0)
    logs, kafka = logs_of(events), Kafka()
    for batch in range(0, 201, 20):
        partition = Partition(open_store(tmp_path), 0, SETTINGS)
        partition.handle(SourceTopic.ACTIONS, logs[SourceTopic.ACTIONS][batch : batch + 20])
        partition.close()
    partition = Partition(store := open_store(tmp_path), 0, SETTINGS)
    tail = read_tokens(store, "u", 150)
    assert tail is not None
    assert tail["ts_ms"].tolist() == list(range(1050, 1200))
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, logs[source])
    kafka.send(partition)
    assert kafka.examples() == {e.serial: content(encode_example(e)) for e in expected.examples}
    after = read_tokens(store, "u", 150)
    assert after is not None
    assert after.tolist() == tail.tolist()
    partition.close()


def test_heartbeats_promise_only_what_is_true() -> None:
    """No example follows a heartbeat whose watermark is beyond its final time."""
    partition, kafka, numbers = Partition(MemoryStore({}), 0, SETTINGS), Kafka(), count()
    clicks = [wire(action("u", f"i{i}", 1000 + 700 * i)) for i in range(100)]
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, END)])
    for click in clicks:
        partition.handle(SourceTopic.ACTIONS, [Record(next(numbers), click)])
    kafka.send(partition)
    reached, beats = 0, 0
    for record in kafka.records:
        message = decode(record.value)
        if isinstance(message, Heartbeat):
            reached, beats = message.watermark_ms, beats + 1
        else:
            assert message.final_ms >= reached
    assert beats > 50


def test_a_waiting_event_that_cannot_be_read_becomes_a_dead_letter() -> None:
    """Once, with its value: another version accepted it, and no start of a worker may fail for it."""
    nested = b'{"user_id":"u","item_id":"i","action":"click","ts":1000,"x":' + b"[" * 900 + b"]" * 900 + b"}"
    store = MemoryStore({layout.waiting_key(id_key("u"), 1000, SourceTopic.ACTIONS, 7): nested})
    for _ in range(2):  # the first process is killed before its first commit
        partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, [])
    (letter,) = (out for out in partition.outbox.unsent() if out.topic == DEAD_LETTERS)
    assert letter.value == nested
    headers = dict(letter.headers)
    assert (headers["reason"], headers["topic"], headers["offset"]) == (b"too-deep", b"actions", b"7")
    assert not list(store.scan(layout.WAITING))
    assert len(Partition(store, 0, SETTINGS).outbox) == 1


def test_how_deep_an_event_may_be_is_one_thing_on_every_stack() -> None:
    """What a worker accepts it can read again, also where Python's stack is nearly used up."""

    def deeper(levels: int, value: bytes) -> bool:
        if levels:
            return deeper(levels - 1, value)
        partition = Partition(MemoryStore({}), 0, SETTINGS)
        partition.handle(SourceTopic.ACTIONS, [Record(0, value)])
        return bool(partition.waiting)

    for depth in (1, 31, 32, 900, 960, 994):
        value = b'{"user_id":"u","item_id":"i","action":"click","ts":1000,"x":%b}' % (b"[" * depth + b"]" * depth)
        assert {deeper(levels, value) for levels in (0, 500, sys.getrecursionlimit() - 250)} == {depth < 32}
