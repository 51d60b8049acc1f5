"""Prometheus metrics of a trainer: the numbers of its live table, from the latest report of run.py.

Scrapes come from another thread than the steps, so a report is handed over whole and never changed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model.evaluation.metrics import ALL, HEADLINE, METRICS, RetrievalMetric

_SCOPES: Final = ("window", "total")
_COUNTERS: Final = {  # key of the report: text
    "steps": ("step", "Micro-batches learned."),
    "learned_examples": ("examples", "Examples learned."),
    "learned_tokens": ("tokens", "Tokens learned."),
    "tested_targets": ("targets", "Retrieval targets tested."),
    "tested_rank_targets": ("rank_targets", "Ranking targets tested."),
    "vocabulary_lookups": ("lookups", "Targets that looked for the row of their item, each once."),
    "vocabulary_hits": ("hits", "Those whose item had a row before it was admitted."),
    "items_born": ("born", "Items that got a row."),
    "items_expired": ("expired", "Items that left since train.item_ttl_d had passed without an event."),
    "items_evicted": ("evicted", "Items that left since there would be more than train.max_items."),
    "items_readmitted": ("readmitted", "Items that got a row again after they had left, among those that left last."),
    "targets_not_admitted": ("not_admitted", "Targets whose item has no row: too rare yet, or there was no room."),
    "dead_item_age_seconds": ("dead_age_s", "Event time from birth to death, summed over items that left."),
    "collisions": ("collisions", "Texts whose key is that of another text."),
    "late_records": ("late", "Records that came after their place in the order."),
    "repeated_examples": ("repeats", "Examples that came once more and were ignored."),
    "refused_records": ("refused", "Records that could not be read and were passed over."),
    "passed_over_examples": (
        "passed_over",
        "Examples older than the point from which another trainer's weights go on.",
    ),
}
_GAUGES: Final = {
    "items": ("items", "Items known."),
    "item_rows": ("item_rows", "Rows of the item table, those free for new items included."),
    "items_without_text": ("without_text", "Items whose id no token and no catalogue record has told yet."),
    "max_items": ("max_items", "Most items (train.max_items); 0: any number."),
    "items_withdrawn": ("withdrawn", "Items withdrawn."),
    "features": ("features", "Action names and attribute values known."),
    "tokens_per_second": ("tokens_per_s", "Tokens learned per second of late."),
    "waiting_records": ("waiting", "Records read and not yet learned."),
    "test_share": ("test_share", "Share of the retrieval targets that are tested."),
    "loss": ("loss", "Loss of the last micro-batch."),
    "drift_boost_steps": (
        "drift_boost_left",
        "Micro-batches still to be learned at train.drift_boost times the rates.",
    ),
    "drift_recovering": ("drift_recovering", "1 from a drift alarm until the model misses no more than before it."),
}
_RANKING: Final = {
    "log_loss": "Log-loss.",
    "ne": "Normalised entropy.",
    "calibration": "Predicted over actual.",
    "auc": "AUC.",
}


class TrainerMetrics(Collector):
    """Collects from the latest report; has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._report: Mapping[str, Any] | None = None
        self._lag: int | None = None
        self.registry.register(self)

    def update(self, report: Mapping[str, Any], lag: int | None = None) -> None:
        """Take a new report, and the number of records that are not yet read, where that is known."""
        self._report, self._lag = report, lag

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, each with the trainer's name; none before the first report."""
        report = self._report
        if report is None:
            return
        for family in self._families(report):
            named = {"trainer": report["name"]}
            family.samples = [sample._replace(labels=sample.labels | named) for sample in family.samples]
            yield family

    def _families(self, report: Mapping[str, Any]) -> Iterator[Metric]:
        for name, (key, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"hstu_{name}", text, value=report[key])
        for name, (key, text) in _GAUGES.items():
            if report[key] is not None:
                yield GaugeMetricFamily(f"hstu_{name}", text, value=report[key])
        yield GaugeMetricFamily("hstu_event_time_seconds", "Event time learned up to.", value=report["event_ms"] / 1000)
        if self._lag is not None:
            text = "Records not yet read; none while Kafka is silent."
            yield GaugeMetricFamily("hstu_lag_records", text, value=self._lag)
        yield _drift(report["drift_alarms"])
        yield _waits(report["waits_for"])
        yield _origin(report["weights_from"])
        yield from _retrieval(report["retrieval"])
        yield from _ranking(report["ranking"])


def _waits(waits_for: Mapping[str, Any] | None) -> Metric:
    family = GaugeMetricFamily(
        "hstu_waits_for", "The partition that all others wait for.", labels=("topic", "partition")
    )
    if waits_for is not None:
        family.add_metric((waits_for["topic"], str(waits_for["partition"])), 1)
    return family


def _drift(alarms: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily("hstu_drift_alarms", "Alarms of the drift detectors.", labels=("signal",))
    for signal, count in alarms.items():
        family.add_metric((signal,), count)
    return family


def _origin(weights_from: Mapping[str, Any] | None) -> Metric:
    family = GaugeMetricFamily(
        "hstu_inherited_steps", "Steps of the trainer whose weights it goes on with.", labels=("origin",)
    )
    if weights_from is not None and weights_from["name"]:
        family.add_metric((weights_from["name"],), weights_from["step"])
    return family


def _retrieval(retrieval: Mapping[str, Any]) -> Iterator[Metric]:
    gauges: dict[str, GaugeMetricFamily] = {}
    for metric in METRICS:
        gauges.setdefault(metric.gauge, _family(metric.gauge, metric.help, metric))
    by_age = _family(f"{HEADLINE.gauge}_by_age", "Hit rate by age of the item.", HEADLINE, "age")
    for scorer, scopes in retrieval.items():
        for scope in _SCOPES:
            for metric in METRICS:
                _add(gauges[metric.gauge], (*_k(metric), scorer, scope), scopes[scope][ALL][metric.key])
            for age, own in scopes[scope].items():
                if age != ALL:
                    _add(by_age, (*_k(HEADLINE), scorer, scope, age), own[HEADLINE.key])
    yield from (*gauges.values(), by_age)


def _family(name: str, text: str, metric: RetrievalMetric, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"hstu_{name}", text, labels=(*(("k",) if metric.k else ()), "scorer", "scope", *more))


def _k(metric: RetrievalMetric) -> tuple[str, ...]:
    return (str(metric.k),) if metric.k else ()


def _ranking(ranking: Mapping[str, Any]) -> Iterator[Metric]:
    for figure, text in _RANKING.items():
        family = GaugeMetricFamily(f"hstu_rank_{figure}", text, labels=("action", "scorer", "scope"))
        for scorer, scopes in ranking.items():
            for scope in _SCOPES:
                for action, slices in scopes[scope].items():
                    _add(family, (action, scorer, scope), slices[ALL][figure])
        yield family


def _add(family: GaugeMetricFamily, labels: tuple[str, ...], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)
