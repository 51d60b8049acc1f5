"""A worker's metrics: the numbers of its partitions, under the names that dashboards know."""

from prometheus_client import CollectorRegistry, generate_latest

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.worker.prometheus import WorkerMetrics
from tests.memory_store import MemoryStore
from tests.wire import Record, action, wire


def test_the_numbers_of_a_partition_are_served() -> None:
    """Events, refusals, what waits, the lag of each known source, and the watermark's delay behind the clock."""
    partition = Partition(MemoryStore({}), 3, StreamSettings(partitions=4, lateness_s=1))
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, wire({"watermark": 9000}))])
    log = [wire(action("u", "a", 1000)), b"{", wire(action("u", "a", 9000))]
    partition.handle(SourceTopic.ACTIONS, [Record(offset, value) for offset, value in enumerate(log)])
    lags = {SourceTopic.ACTIONS: 5}
    metrics = WorkerMetrics(lambda: [partition], lambda source, number: lags.get(source), lambda: 10_000.0, 4)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    lines = set(generate_latest(registry).decode().splitlines())
    assert lines >= {
        'hstu_events_total{partition="3",source="actions"} 2.0',
        'hstu_events_total{partition="3",source="impressions"} 0.0',
        'hstu_dead_letters_total{partition="3",reason="not-json"} 1.0',
        'hstu_tokens_total{partition="3"} 1.0',
        'hstu_waiting_events{partition="3"} 1.0',
        'hstu_lag{partition="3",source="actions"} 5.0',
        'hstu_watermark_delay_seconds{partition="3"} 2.0',
        'hstu_outbox_records{partition="3"} 2.0',
        "hstu_partitions 4.0",
        "hstu_open_partitions 1.0",
    }
    assert not [line for line in lines if line.startswith('hstu_lag{partition="3",source="impressions"')]
