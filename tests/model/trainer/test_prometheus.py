"""What Prometheus gets of a trainer."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from model.trainer.prometheus import TrainerMetrics
from tests.model.trainer.test_live_table import reported


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return reported(tmp_path_factory.mktemp("run"), 40)


def scraped(metrics: TrainerMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(metrics.registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def test_prometheus_gets_the_numbers_of_the_report(report: dict[str, Any]) -> None:
    """Names and labels are a promise to dashboards: k, scorer, scope, age, action."""
    metrics = TrainerMetrics()
    assert scraped(metrics) == {}
    held = {"waits_for": {"topic": "items", "partition": 3, "clock_ms": 5}}
    metrics.update({**report, **held, "weights_from": {"name": "old", "step": 9, "since_ms": 1}}, lag=12)
    found = scraped(metrics)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset({**labels, "trainer": report["name"]}.items())]

    model = report["retrieval"]["hstu"]["window"]
    assert value("hstu_hr", k="10", scorer="hstu", scope="window") == model["all"]["hr@10"]
    assert value("hstu_hr", k="50", scorer="popularity", scope="total") > 0
    assert value("hstu_ndcg", k="10", scorer="hstu", scope="window") == model["all"]["ndcg@10"]
    assert value("hstu_mrr", scorer="last_items", scope="total") >= 0
    assert value("hstu_hr_by_age", k="10", scorer="hstu", scope="window", age="<1h") == model["<1h"]["hr@10"]
    for scorer in ("hstu", "encoder", "logistic"):
        figures = report["ranking"][scorer]["total"]["click"]["all"]
        assert value("hstu_rank_ne", action="click", scorer=scorer, scope="total") == figures["ne"]
    assert value("hstu_steps_total") == 2
    assert value("hstu_lag_records") == 12
    assert value("hstu_waits_for", topic="items", partition="3") == 1
    assert value("hstu_inherited_steps", origin="old") == 9
    assert value("hstu_items") == report["items"]
    assert value("hstu_vocabulary_lookups_total") == report["lookups"] > value("hstu_vocabulary_hits_total") > 0
    assert value("hstu_event_time_seconds") == report["event_ms"] / 1000
