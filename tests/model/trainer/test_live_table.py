from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from model.config import ModelSettings, TrainSettings
from model.trainer.live_table import live_view
from model.trainer.prometheus import TrainerMetrics
from model.trainer.run import Training
from tests.factories import make_examples

MODEL = ModelSettings(dim=8, layers=1, heads=1, max_len=64, rank_actions=("click", "a[b]c"))


def reported(folder: Path, count: int) -> dict[str, Any]:
    """Run a small stream and give the report at its end."""
    training = Training(folder, TrainSettings(batch_examples=32), MODEL, partitions=1, now=lambda: 0.0)
    training.inbox.offer("examples", 0, make_examples(partitions=1, count=count)[0])
    while training.step():
        pass
    report = training.report
    training.close()
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return reported(tmp_path_factory.mktemp("run"), 40)


def shown(report: dict[str, Any], lag: int | None = None) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        console.print(live_view(report, lag))
    return capture.get()


def test_the_table_shows_the_model_beside_its_rivals(report: dict[str, Any]) -> None:
    """Every figure of the report's retrieval and ranking stands in it to four digits, with the progress on top."""
    text = shown(report, lag=12)
    assert "silu: step 2 · event time 2023-11-14" in text
    assert "12 unread" in text
    for scorer in ("hstu", "popularity", "last_items"):
        for scope in ("window", "total"):
            assert f"{report['retrieval'][scorer][scope]['all']['hr@10']:.4f}" in text
    assert f"{report['ranking']['window']['click']['all']['ne']:.4f}" in text
    assert "a[b]c" in text
    for age in ("unseen", "<1h", "<1d", "<7d", "old"):
        assert age in text


def test_before_anything_is_learnt_there_are_no_figures(tmp_path: Path) -> None:
    """The table stands with empty cells, and nothing divides by zero."""
    text = shown(reported(tmp_path, 0))
    assert "step 0" in text
    assert "HR@10" in text
    assert "unread" not in text


def scraped(metrics: TrainerMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(metrics.registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def test_prometheus_gets_the_numbers_of_the_report(report: dict[str, Any]) -> None:
    """Names and labels are a promise to dashboards: k, scorer, scope, age, action."""
    metrics = TrainerMetrics()
    assert scraped(metrics) == {}
    metrics.update(report, lag=12)
    found = scraped(metrics)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    model = report["retrieval"]["hstu"]["window"]
    assert value("hstu_hr", k="10", scorer="hstu", scope="window") == model["all"]["hr@10"]
    assert value("hstu_hr", k="50", scorer="popularity", scope="total") > 0
    assert value("hstu_ndcg", k="10", scorer="hstu", scope="window") == model["all"]["ndcg@10"]
    assert value("hstu_mrr", scorer="last_items", scope="total") >= 0
    assert value("hstu_hr_by_age", k="10", scorer="hstu", scope="window", age="<1h") == model["<1h"]["hr@10"]
    assert value("hstu_rank_ne", action="click", scope="total") == report["ranking"]["total"]["click"]["all"]["ne"]
    assert value("hstu_steps_total") == 2
    assert value("hstu_lag_records") == 12
    assert value("hstu_items") == report["items"]
    assert value("hstu_event_time_seconds") == report["event_ms"] / 1000
