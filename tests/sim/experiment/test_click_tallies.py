"""Click probabilities of a run, against sums over pairs and users."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from model.data.item_age import SLICES
from sim.experiment.click_tallies import Clicks, ClickTallies, constant_log_loss, figures
from sim.experiment.run import Run
from tests.sim.experiment.small_runs import slates, spec

impressions = st.lists(
    st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 2)), min_size=1, max_size=12
)  # logit, label, user


def pairs_won(rows: list[tuple[int, bool, int]]) -> float:
    """Return the share of pairs of a positive and a negative that are in order, ties half; NaN without pairs."""
    won = [(a > b) + (a == b) / 2 for (a, x, _), (b, y, _) in product(rows, rows) if x and not y]
    return sum(won) / len(won) if won else math.nan


@given(impressions)
@settings(max_examples=60, deadline=None)
def test_figures_are_their_definitions(rows: list[tuple[int, bool, int]]) -> None:
    """AUC over all pairs; GAUC over those of a user, weighted by impressions; the rest impression by impression."""
    logits, labels, users = (np.array(column) for column in zip(*rows, strict=True))
    if not labels.any():
        return
    found = figures(logits.astype(float), labels, users.astype(np.uint64))
    p = [1 / (1 + math.exp(-logit)) for logit in logits]
    loss = -sum(math.log(q if label else 1 - q) for q, label in zip(p, labels, strict=True)) / len(rows)
    rate = labels.mean()
    entropy = -sum(math.log(rate if label else 1 - rate) for label in labels) / len(rows)
    by_user = {user: [row for row in rows if row[2] == user] for user in {row[2] for row in rows}}
    both = [(len(own), pairs_won(own)) for own in by_user.values() if not math.isnan(pairs_won(own))]
    gauc = sum(n * auc for n, auc in both) / sum(n for n, _ in both) if both else math.nan
    wanted = (loss, loss / entropy if entropy else math.nan, sum(p) / labels.sum(), pairs_won(rows), gauc)
    assert list(found.values()) == pytest.approx(list(wanted), nan_ok=True)


def test_a_constant_is_worth_its_entropy() -> None:
    """A fair coin: log 2; no negatives: nothing to know."""
    assert constant_log_loss(2, 4) == pytest.approx(math.log(2))
    assert constant_log_loss(3, 3) == 0


def test_rows_are_by_part_action_and_age() -> None:
    """An action that never occurs has no row; the last part has rows of its own; a state restores them."""
    tallies = ClickTallies(("click", "like"), late=50)
    assert tallies.rows() == []
    old, users = len(SLICES) - 1, np.array([1, 1], np.uint64)
    labels = np.array([[True, False], [False, False]])
    tallies.count(0, Clicks(np.array([[1.0, 0], [0, 0]]), labels, np.array([0, old]), users))
    tallies.count(70, Clicks(np.array([[0.0, 0], [1, 0]]), labels, np.array([old, old]), users))
    found = {(row["part"], row["age"]): row for row in tallies.rows()}
    assert {row["action"] for row in tallies.rows()} == {"click"}
    assert set(found) == {(part, age) for part in ("all", "late") for age in ("all", SLICES[old])} | {
        ("all", SLICES[0])
    }
    assert (found["all", "all"]["targets"], found["late", "all"]["targets"]) == (4, 2)
    assert (found["all", "all"]["auc"], found["late", "all"]["auc"]) == (0.5, 0.0)
    restored = ClickTallies(("click", "like"), late=50)
    restored.load_state(tallies.state())
    assert str(restored.rows()) == str(tallies.rows())


def test_a_run_of_a_ranking_model_has_click_probabilities() -> None:
    """Each shown item once, of the whole stream; a baseline has none."""
    model = {"dim": 8, "heads": 1, "encoder": "din", "bias": "none"}
    train = {"batch_examples": 4, "negatives": 8, "fuse_counts": False}
    result = Run(spec("din", model=model, train=train, frozen=False), slates()).run()
    whole = next(row for row in result["clicks"] if (row["part"], row["age"]) == ("all", "all"))
    assert (whole["targets"], whole["positives"]) == (360, 120)
    assert Run(spec("popularity", frozen=False), slates()).run()["clicks"] == []
