"""Prequential evaluation: what it counts, and that a resumed run goes on with it."""

import numpy as np

from model.evaluation.prequential import RANKERS, SCORERS, Outcome, Prequential


def outcome(rank: float, label: bool) -> Outcome:
    """Return a test of two retrieval targets of one rank, and of one ranking target."""
    return Outcome(
        ranks={scorer: np.full(2, rank + place) for place, scorer in enumerate(SCORERS)},
        slices=np.array([0, 1]),
        request_ms=np.array([1, 2]),
        logits={ranker: np.array([[2.0 - place]]) for place, ranker in enumerate(RANKERS)},
        labels=np.array([[label]]),
        rank_slices=np.array([1]),
    )


def test_every_scorer_is_counted_on_the_same_targets() -> None:
    """Window and total hold each scorer's own ranks, and the ranking targets."""
    metrics = Prequential(["click"], window=100)
    metrics.record(outcome(9, label=True))
    metrics.record(outcome(10, label=False))
    assert (metrics.targets, metrics.rank_targets) == (4, 2)
    found = metrics.as_dict()
    hits = [found["retrieval"][scorer]["total"]["all"]["hr@10"] for scorer in SCORERS]
    assert hits == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert found["retrieval"][SCORERS[0]]["window"]["unseen"]["targets"] == 2
    losses = []
    for ranker in RANKERS:
        figures = found["ranking"][ranker]["total"]["click"]["all"]
        assert figures["positives"] == 1
        losses.append(figures["log_loss"])
    assert losses == sorted(losses, reverse=True)  # of one click in two a smaller logit says more


def test_a_state_restores_everything() -> None:
    """After more micro-batches the restored metrics equal those that went on."""
    metrics, restored = Prequential(["click"], window=3), Prequential(["click"], window=3)
    metrics.record(outcome(5, label=True))
    restored.load_state({name: array.copy() for name, array in metrics.state().items()})
    for each in (metrics, restored):
        each.record(outcome(20, label=False))
    assert restored.as_dict() == metrics.as_dict()
