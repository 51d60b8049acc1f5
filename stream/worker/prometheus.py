"""A worker's metrics for Prometheus.

The counters are those of the stores: each counts since its store was made, and moves with its partition from worker to
worker.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.join.partition import Partition
from stream.join.reorder_buffer import NEVER_MS
from stream.schema.dead_letters import Reason
from stream.schema.topics import SourceTopic

_COUNTS: Final = {  # of layout.Counters
    "tokens": "Tokens appended to sequences",
    "examples": "Examples made",
    "targets": "Targets in these examples",
    "late_labels": "Actions on an item whose label was final, or whose slate became no request",
    "duplicates": "Events that had come before",
    "dropped_requests": "Slates that became no request: their user had stream.open_requests open",
    "dropped_attributes": "Attributes forgotten: their user had more than stream.user_attributes",
    "misrouted": "Users whose events lie in a partition that murmur2 would not give them",
}


class WorkerMetrics(Collector):
    """Reports the current numbers, in a thread of the HTTP server.

    Args:
        partitions: Returns the partitions of this worker whose stores are open.
        lag: Returns how many records of a source's partition are not handled yet, None if that is unknown.
        now_ms: The wall clock.
        of: How many partitions all workers have together.
        backup_age_s: Returns how old a partition's newest backup is, None if it has none and gets none.
    """

    def __init__(
        self,
        partitions: Callable[[], Iterable[Partition]],
        lag: Callable[[SourceTopic, int], int | None],
        now_ms: Callable[[], float],
        of: int,
        backup_age_s: Callable[[int], float | None] = lambda number: None,
    ) -> None:
        self._partitions, self._lag, self._now_ms, self._backup_age_s = partitions, lag, now_ms, backup_age_s
        self._of = of

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Return all families of metrics."""
        partitions = list(self._partitions())
        yield GaugeMetricFamily("hstu_partitions", "Partitions of all workers (stream.partitions)", value=self._of)
        yield GaugeMetricFamily("hstu_open_partitions", "Partitions whose store is open here", value=len(partitions))
        yield from _counts(partitions)
        yield self._lags(partitions)
        yield self._delays(partitions)
        yield self._backup_ages(partitions)
        waiting = GaugeMetricFamily("hstu_waiting_events", "Events that wait for the watermark", labels=["partition"])
        outbox = GaugeMetricFamily("hstu_outbox_records", "Records on their way to Kafka", labels=["partition"])
        for partition in partitions:
            waiting.add_metric([str(partition.number)], partition.waiting)
            outbox.add_metric([str(partition.number)], len(partition.outbox))
        yield waiting
        yield outbox

    def _lags(self, partitions: Iterable[Partition]) -> GaugeMetricFamily:
        text = "Messages not handled yet; none while Kafka is silent"
        family = GaugeMetricFamily("hstu_lag", text, labels=["source", "partition"])
        for partition in partitions:
            for source in SourceTopic:
                if (lag := self._lag(source, partition.number)) is not None:
                    family.add_metric([source.topic, str(partition.number)], lag)
        return family

    def _backup_ages(self, partitions: Iterable[Partition]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "hstu_backup_age_seconds",
            "Age of the newest backup; since the store was opened where there is none",
            labels=["partition"],
        )
        for partition in partitions:
            if (age_s := self._backup_age_s(partition.number)) is not None:
                family.add_metric([str(partition.number)], age_s)
        return family

    def _delays(self, partitions: Iterable[Partition]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "hstu_watermark_delay_seconds", "How far the watermark is behind the clock", labels=["partition"]
        )
        for partition in partitions:
            if partition.watermark_ms > NEVER_MS:
                delay_s = max(0.0, (self._now_ms() - partition.watermark_ms) / 1000)
                family.add_metric([str(partition.number)], delay_s)
        return family


def _counts(partitions: Iterable[Partition]) -> Iterator[CounterMetricFamily]:
    events = CounterMetricFamily(
        "hstu_events",
        "Events read; those refused afterwards, such as late ones, are among them",
        labels=["source", "partition"],
    )
    letters = CounterMetricFamily("hstu_dead_letters", "Records refused", labels=["reason", "partition"])
    counts = {
        name: CounterMetricFamily(f"hstu_{name}", help_text, labels=["partition"])
        for name, help_text in _COUNTS.items()
    }
    for partition in partitions:
        number = str(partition.number)
        for source in SourceTopic:
            events.add_metric([source.topic, number], partition.counters.events[source])
        counted = dict(partition.counters.dead_letters)
        for reason in Reason:  # zeros as well: the increase of a series that begins at 1 is unknown to Prometheus
            letters.add_metric([reason.value, number], counted.get(reason, 0))
        for name, family in counts.items():
            family.add_metric([number], getattr(partition.counters, name))
    yield events
    yield letters
    yield from counts.values()
