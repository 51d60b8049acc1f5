"""What is refused and what is joined is a function of the logs: of no batch, order, restart, rebuild or clock."""

import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

import stream
from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.example import NO_PARENT, Example, decode, message_digest
from stream.join.partition import Partition
from stream.schema.record_time import IDLE
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import EXAMPLES, SourceTopic
from tests.memory_store import MemoryStore
from tests.oracles import Wire
from tests.strategies import event_sets, tries
from tests.stream.join.play import Kafka
from tests.wire import REPLAYED, Record, action, wire

SETTINGS = StreamSettings(
    partitions=1,
    lateness_s=3,
    future_s=2,
    action_window_s=4,
    gather_targets=2,
    gather_s=1,
    example_tokens=16,
    open_requests=1,
)
IMPRESSIONS, ACTIONS, ATTRIBUTES = SourceTopic
Logs = dict[SourceTopic, list[Record]]
END = wire({"watermark": END_OF_TIME_MS})


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    """Live logs: disordered events, some late, some ahead of Kafka's clock, some broken; heartbeats of anybody."""
    made: Logs = {}
    for topic, wires in draw(event_sets(15)).items():
        source, now_ms, log = SourceTopic[topic.upper()], 1_000_000, list[Record]()
        for event in wires:
            now_ms += draw(st.sampled_from([0, 100, 1_000, 4_000]))
            kind = draw(st.sampled_from(["event"] * 6 + ["beat", "idle", "broken"]))
            ahead_ms = draw(st.sampled_from([0, -500, -2_000, -6_000, 1_500, 2_001, 10**9]))
            value, headers = wire(event | {"ts": now_ms + ahead_ms}), ()
            if kind in ("beat", "idle"):
                value, headers = wire({"watermark": now_ms + ahead_ms}), IDLE if kind == "idle" else ()
            log.append(Record(len(log), b"{" if kind == "broken" else value, b"u", now_ms, headers))
        made[source] = [*log, Record(len(log), END, None, now_ms, REPLAYED)]
    return made


def decisions(partition: Partition, kafka: Kafka) -> tuple[Any, ...]:
    """Return everything that must be the same, whatever the way."""
    letters = {(letter["id"], letter["reason"], letter["detail"]) for letter in kafka.dead_letters()}
    return kafka.examples(), letters, partition.digest, partition.counters.dead_letters, partition.waiting


def in_one_go(made: Logs) -> tuple[Any, ...]:
    """Play each topic in one batch, one after the other."""
    partition, kafka = Partition(MemoryStore({}), 0, SETTINGS), Kafka()
    for source, log in made.items():
        partition.handle(source, log)
    kafka.send(partition)
    return decisions(partition, kafka)


@hypothesis_settings(max_examples=tries(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_every_way_through_the_logs_makes_the_same_decisions(made: Logs, data: st.DataObject) -> None:
    """Random batches of random topics, restarts, and stores deleted half-way: same serials, contents, dead-letters."""
    kafka, store = Kafka(), MemoryStore({})
    partition = Partition(store, 0, SETTINGS)
    while left := [source for source, log in made.items() if partition.next_offsets[source] < len(log)]:
        source = data.draw(st.sampled_from(left))
        start = max(0, partition.next_offsets[source] - data.draw(st.integers(0, 2)))
        most = data.draw(st.sampled_from([sys.maxsize, 1, 20]))
        partition.handle(source, made[source][start : start + data.draw(st.integers(1, 12))], most)
        kafka.send(partition)
        fate = data.draw(st.sampled_from(["", "", "restarted", "rebuilt"]))
        if fate:
            store = MemoryStore(store.data if fate == "restarted" else {})
            partition = Partition(store, 0, SETTINGS)
    while partition.behind:
        partition.advance(most=1)
    kafka.send(partition)
    assert decisions(partition, kafka) == in_one_go(made)


def test_late_rebuild() -> None:
    """Every tenth event is 20 s late; read before the other topics, and after them: 5 dead-letters each time."""
    events = [action("u", f"i{n}", 1_000_000 + 1_000 * n - (20_000 if n % 10 == 9 else 0)) for n in range(50)]
    log = [Record(n, wire(event), timestamp=2_000_000, headers=()) for n, event in enumerate(events)]
    made = {ACTIONS: [*log, Record(50, END)], IMPRESSIONS: [Record(0, END)], ATTRIBUTES: [Record(0, END)]}
    first = in_one_go(made)
    assert first[3] == {"late": 5}
    assert in_one_go(dict(reversed(made.items()))) == first


def test_skewed_client() -> None:
    """One client's clock is 290 s ahead; the next 300 events of others are as good as before, and its own waits."""
    partition = Partition(MemoryStore({}), 0, StreamSettings(partitions=1))
    fast = wire(action("fast", "x", 1_000_000 + 290_000))
    log = [Record(0, fast, timestamp=1_000_000, headers=())]
    log += [
        Record(n, wire(action("u", f"i{n}", 1_000_000 + 100 * n)), timestamp=1_000_000 + 100 * n, headers=())
        for n in range(1, 301)
    ]
    partition.handle(ACTIONS, log)
    assert partition.counters.dead_letters == {}
    assert partition.clock_ms(ACTIONS) == 1_030_000
    assert partition.waiting == 301


def test_a_live_heartbeat_moves_nobody_beyond_kafkas_clock() -> None:
    """A heartbeat 200 s ahead moves its topic to its own Kafka timestamp, whoever wrote it."""
    partition = Partition(MemoryStore({}), 0, StreamSettings(partitions=1))
    for offset, headers in enumerate([(), IDLE]):
        record = Record(offset, wire({"watermark": 1_200_000 + offset}), None, 1_000_000, headers)
        partition.handle(ATTRIBUTES, [record])
    assert partition.clock_ms(ATTRIBUTES) == 1_000_000


def test_a_replay_is_known_by_what_moved_time_last() -> None:
    """Neither late records of strangers nor heartbeats of workers end it; a live event that moves time does."""
    partition, ts_ms = Partition(MemoryStore({}), 0, SETTINGS), 1_000_000
    assert not partition.replayed
    partition.handle(ACTIONS, [Record(0, wire(action("u", "a", ts_ms)))])
    partition.handle(ACTIONS, [Record(1, wire(action("u", "a", 1)), timestamp=ts_ms, headers=())])
    partition.handle(ACTIONS, [Record(2, wire({"watermark": ts_ms + 1}), None, ts_ms + 1, IDLE)])
    assert partition.replayed
    partition.handle(ACTIONS, [Record(3, wire(action("u", "a", ts_ms + 2)), timestamp=ts_ms + 2, headers=())])
    assert not partition.replayed


def test_each_example_names_the_one_before() -> None:
    """From no parent on, through a restart: the last digest stands for all."""
    events: list[Wire] = [action("u", f"i{n}", 1_000_000 + 3_000 * n) for n in range(30)]
    store, kafka = MemoryStore({}), Kafka()
    for source in (IMPRESSIONS, ATTRIBUTES):
        Partition(store, 0, SETTINGS).handle(source, [Record(0, END)])
    for at, event in enumerate(events):
        partition = Partition(store, 0, SETTINGS)
        partition.handle(ACTIONS, [Record(at, wire(event))])
        kafka.send(partition)
    parent, count = NO_PARENT, 0
    for record in kafka.records:
        if record.topic == EXAMPLES and isinstance(example := decode(record.value), Example):
            assert example.parent == parent
            parent, count = message_digest(record.value), count + 1
    assert count > 5


def read(store: MemoryStore, log: Sequence[Record]) -> Partition:
    """Open a partition, and read actions."""
    partition = Partition(store, 0, SETTINGS)
    partition.handle(ACTIONS, log)
    return partition


def test_kafka_power_cut() -> None:
    """A log that was cut and has grown past what was read is recognised by its last record, before one is skipped."""
    log = [Record(n, wire(action("u", f"i{n}", 1_000_000 + n))) for n in range(30)]
    regrown = [*log[:22], *(Record(n, wire(action("u", f"new{n}", 1_000_100 + n))) for n in range(22, 60))]
    store = MemoryStore({})
    read(store, log)
    assert read(store, log[-1:]).last_read(ACTIONS) == 29
    before = dict(store.data)
    with pytest.raises(BrokerError, match=r"actions\[0\] holds another record at offset 29 .*--weights-from OLD"):
        read(store, regrown[29:])
    assert store.data == before
    with pytest.raises(BrokerError, match="holds another record at offset 29"):
        read(store, [Record(29, log[29].value, timestamp=5)])


@pytest.mark.parametrize("package", ["schema", "join"])
def test_worker_clock(package: str) -> None:
    """No decision can ask a host's clock: what decodes and joins knows none."""
    for path in (Path(stream.__file__).parent / package).glob("*.py"):
        imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)]
        assert not {alias.name for node in imported for alias in node.names} & {"time", "datetime"}, path
        froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not {node.module for node in froms} & {"time", "datetime"}, path
