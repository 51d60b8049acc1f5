"""A user who is forgotten: no trace in the store, as if the events up to then had never been; the log alone decides."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from stream.join.partition import Partition
from stream.schema.dead_letters import RefusedError
from stream.schema.events import ForgetEvent, decode_event
from stream.schema.ids import id_key
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.reader import WAITING_TOKENS, read_tokens
from stream.store.rocksdb import open_store
from tests.memory_store import MemoryStore
from tests.oracles import Wire
from tests.strategies import event_sets, tries
from tests.stream.join.play import SETTINGS, Kafka, logs_of, play, stored_tokens, the_examples
from tests.wire import Record, action, impression, wire

OF_USERS = (layout.TOKENS, layout.USER, layout.REQUEST, layout.TIMER, layout.WAITING)
SLATE = impression("u", "r", 1000, "a", "b")
NOTHING_LATE = SETTINGS.model_copy(update={"lateness_s": 0})


def forget(user: str | int, ts: int) -> Wire:
    return {"user_id": user, "forget": True, "ts": ts}


def with_forget(events: dict[str, list[Wire]], user: str, ts: int) -> dict[str, list[Wire]]:
    return {**events, "attributes": [*events.get("attributes", []), forget(user, ts)]}


def users_of(store: MemoryStore) -> list[tuple[bytes, bytes]]:
    """Return everything that the store knows of users."""
    return [pair for prefix in OF_USERS for pair in store.scan(prefix)]


def some_user(events: dict[str, list[Wire]], rng: random.Random) -> tuple[str, int]:
    """Return the user of some event, and a time around one."""
    wires = [event for log in events.values() for event in log] or [SLATE]
    return str(rng.choice(wires)["user_id"]), rng.choice(wires)["ts"] + rng.choice([-1, 0, 1, 5000])


@hypothesis_settings(max_examples=tries(80), deadline=None)
@given(events=event_sets(40), seed=st.integers(0, 2**16))
def test_it_is_as_if_the_user_had_never_been_there(events: dict[str, list[Wire]], seed: int) -> None:
    """All users' sequences and states are those without the user's events up to then; others' examples are the same."""
    user, ts = some_user(events, random.Random(seed))
    key = id_key(user)
    _, kafka, store = play(with_forget(events, user, ts))
    without = {
        topic: [event for event in log if str(event["user_id"]) != user or event["ts"] > ts]
        for topic, log in events.items()
    }
    _, untouched, expected = play(without)
    assert users_of(store) == users_of(expected)
    found = [(e.user, e.final_ms, e.keys.tolist()) for e in the_examples(kafka) if e.user != key]
    assert found == [(e.user, e.final_ms, e.keys.tolist()) for e in the_examples(untouched) if e.user != key]


@hypothesis_settings(max_examples=tries(60), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_batches_and_crashes_change_nothing(seed: int) -> None:
    """The log alone decides, whoever comes back: cut into any batches, the store opened anew between any two or never.

    All ways give the same examples and the same store.
    """
    rng = random.Random(seed)
    logs = logs_with_forgets(rng)
    store, kafka = in_batches(logs, rng, opened=1.0)
    for opened in (0.0, 0.3):
        other, sent = in_batches(logs, rng, opened)
        assert sent.examples() == kafka.examples()
        assert without_meta(other) == without_meta(store)


def logs_with_forgets(rng: random.Random) -> dict[SourceTopic, list[Record]]:
    """Return logs whose users are forgotten and come back within their windows; every event moves all clocks."""
    events: dict[str, list[Wire]] = {source.topic: [] for source in SourceTopic}
    ts, slates = 1000, [SLATE]
    for number in range(40):
        ts += rng.choice([0, 1, 500, 1500, 3000])
        user, kind = rng.choice("uv"), rng.random()
        if kind < 0.4:
            slates.append(impression(user, f"r{number}", ts, *rng.sample("abcdef", 3)))
            topic, event = "impressions", slates[-1]
        elif kind < 0.8:
            slate = rng.choice(slates[-6:])
            answer = action(slate["user_id"], rng.choice(slate["items"]), ts, request_id=slate["request_id"])
            topic, event = "actions", answer
        else:
            topic, event = "attributes", forget(user, ts)
        for each, log in events.items():
            log.append(event if each == topic else {"watermark": ts})
    return logs_of(events)


def in_batches(logs: dict[SourceTopic, list[Record]], rng: random.Random, opened: float) -> tuple[MemoryStore, Kafka]:
    """Play logs in random batches; before each the store is opened anew with this probability."""
    store, kafka = MemoryStore({}), Kafka()
    partition = Partition(store, 0, NOTHING_LATE)
    left = dict(logs)
    while left := {source: log for source, log in left.items() if log}:
        source, size = rng.choice(list(left)), rng.randint(1, 9)
        if rng.random() < opened:
            partition = Partition(store, 0, NOTHING_LATE)
        partition.handle(source, left[source][:size])
        kafka.send(partition)
        left[source] = left[source][size:]
    return store, kafka


def without_meta(store: MemoryStore) -> dict[bytes, bytes]:
    return {key: value for key, value in store.data.items() if key != layout.META_KEY}


@pytest.mark.parametrize("opened", [0.0, 1.0])
def test_a_window_of_before_closes_no_request_of_after(opened: float) -> None:
    """Requests are numbered anew; the second r is final at its own window's end, with its label."""
    slates = [SLATE, impression("u", "r2", 3000, "c", "d")]
    label = action("u", "c", 7500, request_id="r2")  # after the end of the first window, 7000
    logs = logs_of(with_forget({"impressions": slates, "actions": [label]}, "u", 1500))
    _, kafka = in_batches(logs, random.Random(1), opened)
    farewell, example = the_examples(kafka)
    assert (farewell.final_ms, len(farewell.keys)) == (1500, 0)
    assert (example.final_ms, example.labels.tolist()) == (11_000, [id_key("click")])


def test_nothing_of_the_user_is_left_in_the_store() -> None:
    """No key has the user's, no value the user's text; what was still open never leaves."""
    events = {"impressions": [SLATE], "actions": [action("u", "c", 1500), action("v", "c", 2500)]}
    _, kafka, store = play(with_forget(events, "u", 2000))
    key = id_key("u").to_bytes(8)
    assert not [found for found, value in store.data.items() if key in found or key in value]
    assert not [value for value in store.data.values() if layout.USER + b"u" in value]
    ours = [example for example in the_examples(kafka) if example.user == id_key("u")]
    assert [(example.final_ms, len(example.keys), len(example.positions)) for example in ours] == [(2000, 0, 0)]


def test_a_user_who_comes_back_begins_anew() -> None:
    """Positions begin at 0, and a label of before is late."""
    later = [action("u", "a", 3000, request_id="r"), action("u", "d", 3500)]
    partition, kafka, store = play(with_forget({"impressions": [SLATE], "actions": later}, "u", 2000))
    assert [token.ts_ms for token in stored_tokens(store)[id_key("u")]] == [3000, 3500]
    assert partition.counters.late_labels == 1
    *_, last = the_examples(kafka)
    assert (last.first, last.keys.tolist()) == (0, [id_key("a"), id_key("d")])


def test_events_of_the_same_instant_are_forgotten_too() -> None:
    """The record stands behind them, wherever it lies in its log."""
    _, _, store = play(with_forget({"impressions": [SLATE]}, "u", 1000))
    assert users_of(store) == []


def test_a_user_who_is_unknown_leaves_no_trace() -> None:
    """The record goes to every partition: where the user is not, nothing happens, and nobody counts it as misrouted."""
    partition, kafka, store = play(with_forget({"actions": [action("v", "c", 1000)]}, "u", 2000))
    assert id_key("u") not in {example.user for example in the_examples(kafka)}
    assert not [key for key, _ in users_of(store) if id_key("u").to_bytes(8) in key]
    assert partition.counters.misrouted == 0


def test_queries_forget_while_the_record_waits() -> None:
    """Neither what is stored nor what waits with it is read any more; what comes later is."""
    store = MemoryStore({})
    partition = Partition(store, 0, SETTINGS)
    clicks = [action("u", "a", 1000), action("v", "b", 90_000), action("u", "c", 91_000), action("u", "d", 93_000)]
    records = [Record(offset, wire(click)) for offset, click in enumerate(clicks)]
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, b'{"watermark": 90000}')])
    partition.handle(SourceTopic.ACTIONS, records)
    assert list(read_tokens(store, "u", 10)["ts_ms"]) == [1000, 91_000, 93_000]  # type: ignore[index]
    partition.handle(SourceTopic.ATTRIBUTES, [Record(1, wire(forget("u", 92_000)))])
    assert list(read_tokens(store, "u", 10)["ts_ms"]) == [93_000]  # type: ignore[index]


def test_no_repeats_hide_a_forget_or_other_events_that_wait() -> None:
    """A producer that sends one event again and again counts once; of more than are read, nothing before is shown."""
    store = MemoryStore({})
    partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "old", 1000)))])
    for source in SourceTopic:
        partition.handle(source, [Record(1, b'{"watermark": 90000}')])
    same = {**action("u", "c", 91_000), "note": "of the same instant"}
    partition.handle(SourceTopic.ATTRIBUTES, [Record(2, wire(forget("u", 91_000)))])
    repeats = [action("u", "b", 90_000), action("u", "d", 92_000)] + [action("u", "e", 93_000)] * 30
    partition.handle(SourceTopic.ACTIONS, [Record(2 + n, wire(event)) for n, event in enumerate([same, *repeats])])
    for last in (2, 10, 9000):
        assert list(read_tokens(store, "u", last)["ts_ms"]) == [92_000, 93_000]  # type: ignore[index]
    many = [Record(50 + n, wire(action("u", "f", 93_001 + n))) for n in range(WAITING_TOKENS)]
    partition.handle(SourceTopic.ACTIONS, many)
    tokens = read_tokens(store, "u", 2 * WAITING_TOKENS)
    assert tokens is not None
    assert (len(tokens), tokens["ts_ms"][0]) == (WAITING_TOKENS, 93_001)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (forget("u", -1), "bad-time"),
        (forget("", 1000), "empty-id"),
        (forget("u", 5_000_000), "future"),
        ({"user_id": "u", "forget": False, "ts": 1}, "missing-field"),
        ({"user_id": "u", "forget": True}, "missing-field"),
    ],
)
def test_what_is_no_such_record_is_refused(value: Wire, reason: str) -> None:
    """As any other event is; on other topics it is nothing at all."""
    with pytest.raises(RefusedError) as refused:
        decode_event(SourceTopic.ATTRIBUTES, wire(value), max_slate=None, now_ms=1_000_000)
    assert refused.value.reason == reason
    with pytest.raises(RefusedError):
        decode_event(SourceTopic.ACTIONS, wire(forget("u", 1)), max_slate=None, now_ms=None)
    decoded = decode_event(SourceTopic.ATTRIBUTES, wire(forget(42, 7)), max_slate=None, now_ms=None)
    assert decoded == ForgetEvent(7, id_key("42"), "42")


def test_the_disk_forgets_too(tmp_path: Path) -> None:
    """The tables that had the user, compressed, are deleted; no other file has the user's id."""
    name = "a-user-who-is-to-be-forgotten"
    store = open_store(tmp_path / "p0")
    partition = Partition(store, 0, SETTINGS)
    records = [Record(n, wire(action(name, f"i{n}", 1000 + n))) for n in range(300)]
    partition.handle(SourceTopic.ACTIONS, records)
    partition.close()
    before = {path.name for path in (tmp_path / "p0").glob("*.sst")}
    store = open_store(tmp_path / "p0")
    partition = Partition(store, 0, SETTINGS)
    for source, log in logs_of({"attributes": [forget(name, 5000)]}).items():
        first = 300 if source is SourceTopic.ACTIONS else 0
        partition.handle(source, [Record(first + record.offset, record.value) for record in log])
    partition.outbox.sent(partition.outbox.last)
    assert read_tokens(store, name, 10) is None
    partition.close()
    open_store(tmp_path / "p0").close()  # RocksDB drops the log of before
    assert before
    assert not before & {path.name for path in (tmp_path / "p0").glob("*.sst")}
    assert not [path for path in (tmp_path / "p0").rglob("*") if path.is_file() and name.encode() in path.read_bytes()]


@pytest.mark.parametrize("crash", [False, True])
def test_the_disk_forgets_what_the_outbox_had(crash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples and dead-letters of the user, which Kafka gets after the record was joined; a crash in between too."""
    name, path = "Zq7xV9wK2mPfJ4hT", tmp_path / "p0"  # tables are compressed, and have it as it is
    traces = [name.encode(), id_key(name).to_bytes(8), id_key(name).to_bytes(8, "little")]
    traces.append(id_key(name).to_bytes(8).hex().upper().encode())  # in RocksDB's own log

    def trace() -> list[str]:
        files = {file.name: file.read_bytes() for file in path.iterdir()}
        return [file for file, data in files.items() if any(each in data for each in traces)]

    store = open_store(path)
    partition = Partition(store, 0, SETTINGS)
    events = [impression(name, "r1", 1000, "a", "b"), action(name, "a", 1500, request_id="r1")]
    refused = {**action(name, "i", 1000), "item_id": ""}
    logs = logs_of({"impressions": events[:1], "actions": [events[1], refused], "attributes": [forget(name, 9000)]})
    with monkeypatch.context() as patch:
        if crash:
            patch.setattr(type(store), "purge", lambda *_: None)
        for source, log in logs.items():
            partition.handle(source, log)
        store.checkpoint(tmp_path / "flushed")
    assert {out.topic for out in partition.outbox.unsent()} == {EXAMPLES, DEAD_LETTERS}
    assert [file for file in trace() if file.endswith(".sst")]
    if crash:
        partition.close()
        store = open_store(path)
        partition = Partition(store, 0, SETTINGS)
    partition.outbox.sent(partition.outbox.last)
    assert trace() == []
    assert store.get(layout.ERASURE_KEY) is None
    partition.close()


def test_the_disk_forgets_where_the_user_is_unknown(tmp_path: Path) -> None:
    """Neither the record, which waited on the disk, nor a refused event of the user is left in any file."""
    name = "Zq7xV9wK2mPfJ4hT"  # tables are compressed, and have it as it is
    path = tmp_path / "p0"

    def trace() -> list[str]:
        return [file.name for file in path.iterdir() if name.encode() in file.read_bytes()]

    store = open_store(path)
    partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire({**action(name, "i", 1000), "item_id": ""}))])
    partition.handle(SourceTopic.ATTRIBUTES, [Record(0, wire(forget(name, 5000)))])
    store.checkpoint(tmp_path / "flushed")
    assert [found for found in trace() if found.endswith(".sst")]
    partition.outbox.sent(partition.outbox.last)
    for source, log in logs_of({}).items():
        partition.handle(source, [Record(1 + record.offset, record.value) for record in log])
    assert (partition.waiting, partition.counters.dead_letters) == (0, {"empty-id": 1})
    assert trace() == []
    partition.close()
