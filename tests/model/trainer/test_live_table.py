from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from model.config import ModelSettings, TrainSettings
from model.trainer.live_table import live_view
from model.trainer.run import Training
from tests.factories import make_examples

MODEL = ModelSettings(dim=8, layers=1, heads=1, max_len=64, rank_actions=("click", "a[b]c"))


def reported(folder: Path, count: int) -> dict[str, Any]:
    """Return the report at the end of a small stream."""
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


def test_the_table_shows_the_model_beside_the_baselines(report: dict[str, Any]) -> None:
    """All metrics of the report are in it with four digits, below the progress."""
    text = shown(report, lag=12)
    assert "silu: step 2 · event time 2023-11-14" in text
    assert "12 unread" in text
    for scorer in ("hstu", "popularity", "last_items"):
        for scope in ("window", "total"):
            assert f"{report['retrieval'][scorer][scope]['all']['hr@10']:.4f}" in text
    for ranker in ("hstu", "encoder", "logistic"):
        assert f"{report['ranking'][ranker]['window']['click']['all']['ne']:.4f}" in text
    assert "a[b]c" in text
    for age in ("unseen", "<1h", "<1d", "<7d", "old"):
        assert age in text
    assert f"{report['items']} items (0 withdrawn, {report['hits'] / report['lookups']:.1%} of targets found" in text


def test_the_table_shows_the_lives_of_a_bounded_vocabulary(report: dict[str, Any]) -> None:
    """How full it is, how old the dead became, who came back, and how many targets found their item."""
    lives = {"items": 1000, "max_items": 1600, "expired": 3, "evicted": 2, "dead_age_s": 864_000, "readmitted": 1}
    text = shown(report | lives | {"withdrawn": 4, "lookups": 1000, "hits": 973})
    found = "62% of train.max_items, 5 left at 2.0 days on average, 1 came back, 97.3% of targets found theirs"
    assert f"1,000 items (4 withdrawn, {found})" in " ".join(text.split())


def test_before_anything_is_learnt_there_are_no_figures(tmp_path: Path) -> None:
    """The table has empty cells, and nothing divides by zero."""
    text = shown(reported(tmp_path, 0))
    assert "step 0" in text
    assert "HR@10" in text
    assert "unread" not in text
