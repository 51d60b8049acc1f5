"""docs/reference/metrics.md: what workers, trainers and servers export to Prometheus."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from model.data.item_age import SLICES
from model.evaluation.metrics import ALL, METRICS
from model.serving.hot_swap import Swapper
from model.serving.http.prometheus import ServerMetrics
from model.trainer.prometheus import TrainerMetrics
from model.user_states.cache import UserStates
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.worker.prometheus import WorkerMetrics
from tests.memory_store import MemoryStore
from tests.reference.markdown import code, page, table
from tests.wire import Record, wire

_INTRO = """What is at `/metrics` of each kind of process. Which of these to watch, and what to do at each alert, is in
[monitoring](../monitoring.md)."""


def metrics_page() -> str:
    parts = []
    for title, registry in (("Worker", _worker()), ("Trainer", _trainer()), ("Server", _server())):
        parts += [f"## {title}", _table(family for family in registry.collect() if family.name.startswith("hstu"))]
    return page("Metrics", _INTRO, parts)


def _table(families: Iterable[Metric]) -> str:
    return table(("metric", "type", "labels", "meaning"), map(_row, families))


def _row(family: Metric) -> tuple[str, ...]:
    labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
    name = family.name + ("_total" if family.type == "counter" else "")
    return code(name), family.type, ", ".join(map(code, labels)), family.documentation.rstrip(".") + "."


def _worker() -> CollectorRegistry:
    partition, registry = Partition(MemoryStore({}), 0, StreamSettings(partitions=1)), CollectorRegistry()
    for source in SourceTopic:
        partition.handle(source, [Record(0, wire({"watermark": 9000}))])
    registry.register(WorkerMetrics(lambda: [partition], lambda source, number: 0, lambda: 0.0, 1, lambda number: 0.0))
    return registry


def _trainer() -> CollectorRegistry:
    """Return the metrics of a report in which every figure is there, and is 0."""
    metrics, zeros = TrainerMetrics(), defaultdict(int, {metric.key: 0 for metric in METRICS})
    slices = {ALL: zeros, SLICES[0]: zeros}
    report: dict[str, Any] = defaultdict(int)
    report |= {
        "name": "silu",
        "waits_for": {"topic": "examples", "partition": 0},
        "weights_from": {"name": "silu", "step": 0},
        "drift_alarms": {"loss": 0},
        "retrieval": {"hstu": {"window": slices, "total": slices}},
        "ranking": {"hstu": {"window": {"click": slices}, "total": {"click": slices}}},
    }
    metrics.update(report, 0)
    return metrics.registry


def _server() -> CollectorRegistry:
    """Return the metrics of a server that has answered once."""

    def load(path: Path) -> Any:
        raise AssertionError(path)

    metrics = ServerMetrics(
        Swapper(Path("none"), "latest", load), UserStates(0), Path(__file__).parents[1], lambda *_: None
    )

    async def answer(*_: Any) -> None:
        pass

    asyncio.run(metrics.middleware(answer)({"type": "http", "method": "GET"}, answer, answer))
    return metrics.registry
