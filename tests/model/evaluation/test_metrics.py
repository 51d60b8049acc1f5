import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.data.item_age import SLICES
from model.errors import ModelError
from model.evaluation.metrics import ALL, RankingTally, RetrievalTally, Tally

ACTIONS = ("click", "like")
AUC_ERROR = 1e-12  # of float64 sums, beyond the bound of the histogram
slices = st.integers(0, len(SLICES) - 1)
some_ranks = (
    st.just(math.inf) | st.sampled_from([1, 9.5, 10, 10.5, 50, 50.5]) | st.integers(2, 400).map(lambda n: n / 2)
)
logits = st.floats(-30, 30) | st.sampled_from([-16.0, 0.0, 0.5, 16.0, 15.999])
Answer = tuple[float, int]
Guess = tuple[tuple[float, float], tuple[bool, bool], int]
answers = st.lists(st.tuples(some_ranks, slices), max_size=20)
guesses = st.lists(st.tuples(st.tuples(logits, logits), st.tuples(st.booleans(), st.booleans()), slices), max_size=20)


def retrieval(every: Sequence[Answer]) -> RetrievalTally:
    tally = RetrievalTally()
    tally.count(np.array([rank for rank, _ in every], float), np.array([s for _, s in every], np.intp))
    return tally


def ranking(every: Sequence[Guess]) -> RankingTally:
    tally = RankingTally(ACTIONS)
    tally.count(
        np.array([x for x, _, _ in every], float).reshape(-1, 2),
        np.array([y for _, y, _ in every], bool).reshape(-1, 2),
        np.array([s for _, _, s in every], np.intp),
    )
    return tally


def equal(one: Tally, other: Tally) -> bool:
    return all(np.allclose(array, other.arrays[name], rtol=1e-12) for name, array in one.arrays.items())


Figures = dict[str, float | None]


def agree(one: Figures, other: Figures) -> bool:
    """Return whether two sets of figures agree; None equals only None."""
    assert list(one) == list(other)
    return all(
        a == b if None in (a, b) else math.isclose(a, b, rel_tol=1e-11)
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def retrieval_by_hand(every: list[Answer]) -> Figures:
    if not every:
        return {"targets": 0, "hr@10": None, "hr@50": None, "ndcg@10": None, "mrr": None}
    n = len(every)
    found = [rank for rank, _ in every]
    return {
        "targets": n,
        "hr@10": sum(rank <= 10 for rank in found) / n,
        "hr@50": sum(rank <= 50 for rank in found) / n,
        "ndcg@10": sum(1 / math.log2(1 + rank) for rank in found if rank <= 10) / n,
        "mrr": sum(1 / rank for rank in found) / n,
    }


@given(answers)
def test_retrieval_figures_agree_with_their_definitions(every: list[Answer]) -> None:
    """In every age slice and over all; None where there are no targets; as_dict() is JSON."""
    tally = retrieval(every)
    got = json.loads(json.dumps(tally.as_dict(), allow_nan=False))
    assert tally.targets == len(every)
    assert list(got) == [*SLICES, ALL]
    for i, name in enumerate(got):
        mine = [answer for answer in every if name == ALL or answer[1] == i]
        assert agree(got[name], retrieval_by_hand(mine))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def ranking_by_hand(pairs: list[tuple[float, bool]]) -> Figures:
    """Return the ranking figures of (logit, label) pairs by their textbook definitions."""
    positives = sum(label for _, label in pairs)
    figures: Figures = {"targets": len(pairs), "positives": positives}
    figures |= {"log_loss": None, "ne": None, "calibration": None}
    if pairs:
        figures["log_loss"] = mean([math.log1p(math.exp(-x if y else x)) for x, y in pairs])
    if positives:
        figures["calibration"] = sum(1 / (1 + math.exp(-x)) for x, _ in pairs) / positives
    if 0 < positives < len(pairs):
        rate = positives / len(pairs)
        figures["ne"] = figures["log_loss"] / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    return figures


@given(guesses)
def test_ranking_figures_agree_with_their_definitions(every: list[Guess]) -> None:
    """For every action, in every age slice and over all; None where not defined; as_dict() is JSON."""
    tally = ranking(every)
    got = json.loads(json.dumps(tally.as_dict(), allow_nan=False))
    assert tally.targets == len(every)
    for a, action in enumerate(ACTIONS):
        got[action][ALL].pop("auc")
        assert list(got[action]) == [*SLICES, ALL]
        for i, name in enumerate(got[action]):
            pairs = [(x[a], y[a]) for x, y, s in every if name == ALL or s == i]
            assert agree(got[action][name], ranking_by_hand(pairs))


def bin_of(logit: float) -> int:
    return min(max(math.floor((logit + 16) * 128), 0), 4095)


def share_in_one_bin(pairs: list[tuple[float, bool]]) -> float:
    """Return the share of pairs of a positive and a negative whose logits lie in one bin of the histogram."""
    duels = [bin_of(x) == bin_of(z) for x, positive in pairs if positive for z, other in pairs if not other]
    return mean(list(map(float, duels))) if duels else math.nan


def auc_by_pairs(pairs: list[tuple[float, bool]]) -> float:
    """Return the share of pairs of a positive and a negative in the right order; ties count half."""
    duels = [(x > z) + (x == z) / 2 for x, positive in pairs if positive for z, other in pairs if not other]
    return mean(duels) if duels else math.nan


@given(guesses)
def test_auc_is_as_near_to_counting_pairs_as_it_says(every: list[Guess]) -> None:
    """The histogram's AUC is off by no more than its bound; both are NaN where a class is missing."""
    tally = ranking(every)
    for a in range(len(ACTIONS)):
        pairs = [(x[a], y[a]) for x, y, _ in every]
        got, exact = tally.auc()[a], auc_by_pairs(pairs)
        assert math.isnan(got) == math.isnan(exact)
        assert math.isnan(exact) or abs(got - exact) <= share_in_one_bin(pairs) / 2 + AUC_ERROR


@given(st.lists(st.tuples(st.integers(-2048, 2047), st.booleans()), min_size=1))
def test_auc_is_exact_where_no_two_logits_share_a_bin(every: list[tuple[int, bool]]) -> None:
    """It is exact for logits within [-16, 16) that are equal or at least 1/128 apart."""
    pairs = [(x / 128, y) for x, y in every]
    got = ranking([((x, x), (y, y), 0) for x, y in pairs]).auc()[0]
    assert got == pytest.approx(auc_by_pairs(pairs), rel=1e-12, nan_ok=True)


@given(answers, answers, guesses, guesses)
def test_tallies_of_parts_add_up_to_the_tally_of_the_whole(
    some: list[Answer], more: list[Answer], few: list[Guess], many: list[Guess]
) -> None:
    """Counting in two parts and adding them equals counting at once; empty() is the zero of the addition."""
    for part, rest, whole in (
        (retrieval(some), retrieval(more), retrieval(some + more)),
        (ranking(few), ranking(many), ranking(few + many)),
    ):
        total = part.empty()
        assert total.targets == 0
        total.add(part)
        total.add(rest)
        assert equal(total, whole)


def test_a_diverged_model_is_an_error_sentence() -> None:
    """The error names the action and the target, and what to do."""
    with pytest.raises(ModelError, match=r"action 'like' for target 1 .* is nan: training has diverged; lower"):
        ranking([((0, 0), (True, True), 0), ((0, math.nan), (True, True), 0)])


@pytest.mark.parametrize("rank", [np.nan, 0.5])
def test_a_rank_that_no_target_can_have_is_refused(rank: float) -> None:
    """Scores that are not numbers give such ranks, and reciprocal ranks above 1."""
    with pytest.raises(ModelError, match="metrics are not counted"):
        RetrievalTally().count(np.array([3.0, rank]), np.zeros(2, np.intp))
