"""The core's one promise: the same events give the same sequences and examples, whatever the way they arrive."""

import sys
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.example import Example, Heartbeat, decode, encode_example
from stream.join.partition import Partition
from stream.schema.ids import id_key, partition_of
from stream.schema.tokens import END_OF_TIME_MS, TOKEN_DTYPE, Kind
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.layout import Outgoing
from stream.store.reader import read_tokens
from stream.store.rocksdb import open_store
from tests.memory_store import CrashError, MemoryStore
from tests.oracles import Token, Wire, join
from tests.strategies import event_sets
from tests.wire import Record, action, impression, wire

SETTINGS = StreamSettings(
    partitions=1, lateness_s=30, action_window_s=6, gather_targets=3, gather_s=2, example_tokens=16, max_slate=8
)


END = wire({"watermark": END_OF_TIME_MS})
START_MS = 1_700_000_000_000


def logs_of(events: dict[str, list[Wire]]) -> dict[SourceTopic, list[Record]]:
    """Give each source's log, ended by a heartbeat."""
    return {
        source: [Record(i, value) for i, value in enumerate([*map(wire, events.get(source.topic, [])), END])]
        for source in SourceTopic
    }


class Kafka:
    """What left through the outbox, repeats included."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []

    def send(self, partition: Partition) -> None:
        box = partition.outbox.unsent()
        self.records += box
        if box:
            partition.outbox.sent(box[-1].number)

    def examples(self) -> dict[int, bytes]:
        """Give the examples by serial; a repeat must be the same to the byte."""
        found: dict[int, bytes] = {}
        for record in self.records:
            if record.topic == EXAMPLES and isinstance(message := decode(record.value), Example):
                assert found.setdefault(message.serial, record.value) == record.value
        return found

    def beats(self) -> list[Heartbeat]:
        """Give the heartbeats in the order in which they were sent."""
        ours = [decode(record.value) for record in self.records if record.topic == EXAMPLES]
        return [message for message in ours if isinstance(message, Heartbeat)]

    def dead_letters(self) -> list[dict[str, str]]:
        letters = {r.number: dict(r.headers) for r in self.records if r.topic == DEAD_LETTERS}
        return [{name: text.decode() for name, text in headers.items()} for headers in letters.values()]


def play(events: dict[str, list[Wire]], settings: StreamSettings = SETTINGS) -> tuple[Partition, Kafka, MemoryStore]:
    """Hand over each topic in one batch."""
    store, kafka = MemoryStore({}), Kafka()
    partition = Partition(store, 0, settings)
    for source, log in logs_of(events).items():
        partition.handle(source, log)
    kafka.send(partition)
    return partition, kafka, store


def stored_tokens(store: MemoryStore) -> dict[int, list[Token]]:
    """Read every user's sequence back from its blocks."""
    tokens: dict[int, list[Token]] = {}
    for key, value in store.scan(layout.TOKENS):
        user = int.from_bytes(key[1:9])
        tokens.setdefault(user, []).extend(Token(*row.tolist()) for row in np.frombuffer(value, TOKEN_DTYPE))
    return tokens


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event_sets(), st.data())
def test_any_interleaving_split_and_crash_gives_what_the_oracle_gives(
    events: dict[str, list[Wire]], data: st.DataObject
) -> None:
    """Sequences and examples equal the oracle's byte for byte, through crashes, and where commits stop half-way."""
    expected = join(events, SETTINGS, 0)
    logs, store, kafka = logs_of(events), MemoryStore({}), Kafka()
    partition = Partition(store, 0, SETTINGS)
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
            partition = Partition(store, 0, SETTINGS)
    while partition.behind:
        partition.advance(most=1)
    kafka.send(partition)
    assert kafka.beats()[-1].watermark_ms == END_OF_TIME_MS - 30_000
    assert stored_tokens(store) == {user: tokens for user, tokens in expected.tokens.items() if tokens}
    assert kafka.examples() == {e.serial: encode_example(e) for e in expected.examples}
    assert partition.digest == play(events)[0].digest
    assert partition.waiting == 0


@pytest.mark.parametrize("gather_s", [0.0, 1.0, 600.0])
@hypothesis_settings(max_examples=40, deadline=None)
@given(events=event_sets(40))
def test_settings_of_gathering_agree_with_the_oracle(gather_s: float, events: dict[str, list[Wire]]) -> None:
    """Targets leave by count and by time as the settings say; long histories are cut to example_tokens."""
    settings = SETTINGS.model_copy(update={"gather_s": gather_s, "gather_targets": 5, "action_window_s": 3})
    expected = [encode_example(e) for e in join(events, settings, 0).examples]
    assert list(play(events, settings)[1].examples().values()) == expected


@hypothesis_settings(max_examples=60, deadline=None)
@given(event_sets())
def test_every_target_leaves_exactly_once(events: dict[str, list[Wire]]) -> None:
    """Each shown item is a target once, and so is each organic action."""
    _, kafka, store = play(events)
    seen: Counter[tuple[int, int]] = Counter()
    for message in kafka.examples().values():
        example = decode(message)
        assert isinstance(example, Example)
        seen.update((example.user, example.first + int(position)) for position in example.positions)
    assert not seen or max(seen.values()) == 1
    shown = {(u, i) for u, ts in stored_tokens(store).items() for i, t in enumerate(ts) if t.kind == Kind.IMPRESSION}
    assert shown <= set(seen)


def the_examples(kafka: Kafka) -> list[Example]:
    return [message for raw in kafka.examples().values() if isinstance(message := decode(raw), Example)]


def test_a_label_is_final_early_when_all_items_were_acted_on() -> None:
    """A slate of one, clicked, is gathered at the click and not at the window's end."""
    _, kafka, _ = play({"impressions": [impression("u", "r", 1000, "a")], "actions": [action("u", "a", 1500)]})
    (example,) = the_examples(kafka)
    assert example.final_ms == 1500 + 2000
    assert example.labels.tolist() == [id_key("click")]


def test_an_action_after_the_window_is_a_late_label_if_it_names_its_request() -> None:
    """It stays a token, is counted, and trains nothing; without a request it is organic."""
    shown = [impression("u", "r", 1000, "a")]
    partition, kafka, store = play({"impressions": shown, "actions": [action("u", "a", 9000, request_id="r")]})
    assert partition.counters.late_labels == 1
    assert [len(e.positions) for e in the_examples(kafka)] == [1]
    assert len(stored_tokens(store)[id_key("u")]) == 2
    partition, kafka, _ = play({"impressions": shown, "actions": [action("u", "a", 9000)]})
    assert partition.counters.late_labels == 0
    assert sum(len(e.positions) for e in the_examples(kafka)) == 2


def test_the_window_is_half_open() -> None:
    """An action at exactly the end of the window is no label; one millisecond earlier it is."""
    for ts, labels in ((1000 + 6000, 0), (1000 + 5999, 1)):
        shown = [impression("u", "r", 1000, "a", "b")]
        _, kafka, _ = play({"impressions": shown, "actions": [action("u", "a", ts, request_id="r")]})
        assert len(the_examples(kafka)[0].labels) == labels


def test_a_user_without_history_has_the_query_minus_one() -> None:
    """The first organic action has nothing before it, the second the first."""
    _, kafka, _ = play({"actions": [action("u", "a", 1000), action("u", "b", 1001)]})
    assert the_examples(kafka)[0].queries.tolist() == [-1, 0]


def test_texts_of_new_tokens_travel_and_only_they() -> None:
    """An example tells the texts of tokens that no earlier example of the user has told."""
    clicks = [action("u", item, 1000 + i) for i, item in enumerate("abcd")]
    _, kafka, _ = play({"actions": clicks})
    assert [example.texts for example in the_examples(kafka)] == [("a", "click", "b", "c"), ("d", "click")]


def test_an_attribute_is_appended_when_its_value_changes() -> None:
    """The first of each run is kept."""
    values = ["NO", "NO", "SE", "SE", "NO"]
    told = [{"user_id": "u", "name": "country", "value": v, "ts": 1000 + i} for i, v in enumerate(values)]
    _, _, store = play({"attributes": told})
    assert [t.key for t in stored_tokens(store)[id_key("u")]] == [id_key(f"country={v}") for v in ("NO", "SE", "NO")]


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


def test_a_silent_topic_holds_the_others_back_until_it_is_idle() -> None:
    """The watermark is the minimum; the shell may excuse a topic, and a later batch continues from there."""
    partition = Partition(MemoryStore({}), 0, SETTINGS)
    partition.handle(
        SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1_000))), Record(1, wire(action("u", "b", 90_000)))]
    )
    assert partition.counters.tokens == 0
    partition.advance(idle={SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES})
    assert (partition.counters.tokens, partition.waiting, partition.watermark_ms) == (1, 1, 60_000)


def test_an_event_of_the_future_is_refused_by_live_workers_alone() -> None:
    """Five minutes ahead of the clock pass, one millisecond more does not; replay has no clock."""
    for now_ms, refused in ((1_000_000, 1), (None, 0)):
        partition = Partition(MemoryStore({}), 0, SETTINGS, None if now_ms is None else lambda: 1_000_000)
        events = [action("u", "a", 1_300_000), action("u", "b", 1_300_001)]
        partition.handle(SourceTopic.ACTIONS, [Record(i, wire(e)) for i, e in enumerate(events)])
        assert partition.counters.dead_letters.get("future", 0) == refused


def test_two_texts_with_one_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one goes to dead-letters, whether it is an item or a user; nothing is merged."""
    monkeypatch.setattr(
        "stream.schema.events.id_key", lambda text: {"b": 1, "a": 1, "v": 2, "u": 2}.get(text) or id_key(text)
    )
    clicks = [action("u", "a", 1000), action("u", "b", 1001), action("v", "c", 1002), action("u", "a", 1003)]
    partition, kafka, _ = play({"actions": clicks})
    assert [letter["reason"] for letter in kafka.dead_letters()] == ["collision", "collision"]
    assert [letter["offset"] for letter in kafka.dead_letters()] == ["1", "2"]
    assert partition.counters.tokens == 2


def test_users_that_live_elsewhere_are_counted() -> None:
    """A producer with another partitioner splits users; the worker says so."""
    settings = SETTINGS.model_copy(update={"partitions": 7})
    partition, _, _ = play({"actions": [action(f"u{i}", "a", 1000) for i in range(50)]}, settings)
    assert 25 < partition.counters.misrouted < 50


def test_a_user_that_lives_elsewhere_is_counted_once() -> None:
    """However many events its first instant brings."""
    settings = SETTINGS.model_copy(update={"partitions": 7})
    stranger = next(user for user in map(str, range(50)) if partition_of(user.encode(), 7))
    clicks = [action(stranger, f"i{i}", 1000 + i // 30) for i in range(50)]
    partition, _, _ = play({"actions": clicks}, settings)
    assert (partition.counters.misrouted, partition.counters.tokens) == (1, 50)


def test_old_blocks_are_dropped_by_length_and_age() -> None:
    """History is capped in whole blocks, and never below what it promises to keep."""
    day_ms = 86_400_000
    clicks = [action("u", f"i{i}", 1000 + i * day_ms) for i in range(400)]
    settings = SETTINGS.model_copy(update={"history_tokens": 100})
    _, _, store = play({"actions": clicks}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 100 <= len(kept) < 100 + 2 * layout.BLOCK
    assert kept[-1].ts_ms == clicks[-1]["ts"]
    settings = SETTINGS.model_copy(update={"history_days": 70.0})
    _, _, store = play({"actions": clicks}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 70 <= len(kept) <= 70 + 2 * layout.BLOCK


def test_age_counts_whatever_the_size_of_slates() -> None:
    """Old blocks go when a block is begun, also where no slate ever ends at a block's edge."""
    shown = [impression("u", f"r{i}", 1000 + i * 86_400_000, *(f"{i}-{n}" for n in range(6))) for i in range(200)]
    attribute = {"user_id": "u", "name": "n", "value": "v", "ts": 1}
    settings = SETTINGS.model_copy(update={"history_days": 10.0, "max_slate": 6})
    _, _, store = play({"impressions": shown, "attributes": [attribute]}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 60 <= len(kept) <= 60 + 2 * layout.BLOCK


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
    """It goes to dead-letters, and so does one of the future; the end of time passes."""
    partition, now_ms = Partition(MemoryStore({}), 0, SETTINGS, lambda: START_MS), START_MS + 300_000
    beats = [START_MS * 1000, now_ms + 1, now_ms]
    partition.handle(SourceTopic.ACTIONS, [Record(i, wire({"watermark": ms})) for i, ms in enumerate(beats)])
    assert partition.high_ms(SourceTopic.ACTIONS) == now_ms
    assert partition.counters.dead_letters == {"bad-time": 1, "future": 1}
    partition.handle(SourceTopic.ACTIONS, [Record(3, END)])
    assert partition.high_ms(SourceTopic.ACTIONS) == END_OF_TIME_MS


class Unreadable(MemoryStore):
    """A store that fails to read one key, once."""

    bad = b""

    def get(self, key: bytes) -> bytes | None:
        if key == self.bad:
            self.bad = b""
            raise StoreError("mend the disk")
        return super().get(key)


def test_half_a_batch_is_never_committed() -> None:
    """After an error in the middle nothing more is taken or joined; the partition opened anew has lost nothing."""
    store, idle = Unreadable({}), {SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES}
    log = [Record(i, wire(action(f"u{i}", "a", 1000 + i))) for i in range(20)] + [Record(20, END)]
    partition = Partition(store, 0, SETTINGS)
    store.bad = layout.user_key(id_key("u7"))
    with pytest.raises(StoreError, match="mend the disk"):
        partition.handle(SourceTopic.ACTIONS, log, idle)
    with pytest.raises(StoreError, match=r"Partition 0 failed in the middle of a batch and must be opened again"):
        partition.advance(set(SourceTopic))
    with pytest.raises(StoreError, match="must be opened again"):
        partition.handle(SourceTopic.ATTRIBUTES, [Record(0, END)], idle)
    assert store.data == {}
    partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, log[partition.next_offsets[SourceTopic.ACTIONS] :], idle)
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
    assert kafka.examples() == {e.serial: encode_example(e) for e in expected.examples}
    after = read_tokens(store, "u", 150)
    assert after is not None
    assert after.tolist() == tail.tolist()
    partition.close()


def test_heartbeats_promise_only_what_is_true() -> None:
    """No example follows a heartbeat whose watermark is beyond its final time."""
    partition, kafka, numbers = Partition(MemoryStore({}), 0, SETTINGS), Kafka(), count()
    clicks = [wire(action("u", f"i{i}", 1000 + 700 * i)) for i in range(100)]
    for click in clicks:
        partition.handle(
            SourceTopic.ACTIONS, [Record(next(numbers), click)], idle={SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES}
        )
    kafka.send(partition)
    reached, beats = 0, 0
    for record in kafka.records:
        message = decode(record.value)
        if isinstance(message, Heartbeat):
            reached, beats = message.watermark_ms, beats + 1
        else:
            assert message.final_ms >= reached
    assert beats > 50
