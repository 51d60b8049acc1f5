"""The best ranking of a record's candidates at each event, and its figures: expected, and on the actual next item.

L = events of the record, C = categories, I = items, E = runs: the candidates of one category that have equal weight.

An item's probability is that of its category (oracle_posterior.py) times its share of the category, which is the same
throughout a record. The best ranking goes by probability. Items of equal probability come in random order, so that each
earns the mean of their places. Instead of sorting all items at each event, the runs are merged: those of each category
seen in the record are sorted by share, and so are those of all other categories together, which are equally likely.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from sim.dirichlet.oracle_posterior import Floats
from sim.dirichlet.stream import DirichletStream

HITS: Final = ("hr10", "hr50", "ndcg10", "mrr")


@dataclass(frozen=True, slots=True, eq=False)
class RecordItems:
    """The items of one record: the shares of all that are available, and the runs of those that are ranked."""

    shares: Floats  # [I] of its category; 0 where it is not available
    runs: NDArray[np.int64]  # [I] the run of each item; -1: it is not ranked
    run_shares: Floats  # [E] share of each item of a run
    run_counts: NDArray[np.int64]  # [E]
    run_categories: NDArray[np.int64]  # [E] rises; within a category the shares fall
    first_runs: NDArray[np.int64]  # [C+1] of each category, and E
    by_share: NDArray[np.int64]  # [E] all runs, shares falling


def record_items(stream: DirichletStream, record: int, known_I: NDArray[np.bool_] | None = None) -> RecordItems:
    """Return the items that a record can show; if known_I is given, only known items are ranked."""
    categories = stream.settings.categories
    available = int(stream.available(np.array([record]))[0])
    weight_I = np.where(np.arange(stream.settings.items) < available, stream.weight_I, 0)
    share_I = weight_I / np.bincount(stream.category_I, weight_I, categories)[stream.category_I]
    ranked = stream.by_weight_I[weight_I[stream.by_weight_I] > 0]
    if known_I is not None:
        ranked = ranked[known_I[ranked]]
    category, share = stream.category_I[ranked], share_I[ranked]
    starts = np.append(True, (np.diff(category) != 0) | (np.diff(share) != 0))[: len(ranked)]
    category_E, share_E = category[starts], share[starts]
    run_I = np.full(len(share_I), -1)
    run_I[ranked] = np.cumsum(starts) - 1
    return RecordItems(
        shares=share_I,
        runs=run_I,
        run_shares=share_E,
        run_counts=np.diff(np.append(np.flatnonzero(starts), len(ranked))),
        run_categories=category_E,
        first_runs=np.searchsorted(category_E, np.arange(categories + 1)),
        by_share=np.argsort(-share_E, kind="stable"),
    )


def gains(items: int) -> Floats:
    """Return the sums of HITS over the first k places, for k = 0..items, [I+1, 4]."""
    rank = np.arange(1, items + 1)
    earned = np.stack([rank <= 10, rank <= 50, (rank <= 10) / np.log2(1 + rank), 1 / rank], axis=1)
    return np.concatenate([np.zeros((1, len(HITS))), np.cumsum(earned, axis=0)])


def rank_record(
    predicted_LC: Floats, items_L: NDArray[np.int32], category_L: NDArray[np.int32], on: RecordItems, gain: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return expected gains [L, 4], realised gains [L, 4], and the actual items' mean ranks [L], inf if not ranked."""
    length = len(items_L)
    expected_L4, realised_L4 = np.zeros((length, len(HITS))), np.zeros((length, len(HITS)))
    rank_L = np.full(length, np.inf)
    falling = on.run_shares[on.by_share], on.run_counts[on.by_share], on.run_categories[on.by_share], on.by_share
    runs = (on.run_shares, on.run_counts, on.first_runs, falling)
    _rank(predicted_LC, category_L, on.runs[items_L], runs, gain, (expected_L4, realised_L4, rank_L))
    return expected_L4, realised_L4, rank_L


@compiled
def _rank(predicted_LC: Any, category_L: Any, run_L: Any, runs: Any, gain: Any, out: Any) -> None:
    categories = predicted_LC.shape[1]
    is_seen_C = np.zeros(categories, np.bool_)
    seen = np.zeros(categories, np.int64)
    d = 0
    for n in range(len(category_L)):
        _rank_next(predicted_LC[n], run_L[n], seen[:d], is_seen_C, runs, gain, out[0][n], out[1][n], out[2][n : n + 1])
        category = category_L[n]
        if not is_seen_C[category]:
            is_seen_C[category] = True
            seen[d] = category
            d += 1


@compiled
def _rank_next(
    predicted_C: Any,
    target: Any,
    seen: Any,
    is_seen_C: Any,
    runs: Any,
    gain: Any,
    expected: Any,
    realised: Any,
    rank: Any,
) -> None:
    """Go through all runs from the most probable on; runs of equal probability are one step."""
    share_E, count_E, first_C, (fallen_share_E, fallen_count_E, fallen_category_E, fallen_run_E) = runs
    at, end, other, above = first_C[seen], first_C[seen + 1], 0, 0
    ties, held, value = 0, False, 0.0  # of the step that is being gathered
    mine, whose = _foremost(predicted_C, seen, share_E, at, end)
    while True:
        while other < len(fallen_share_E) and is_seen_C[fallen_category_E[other]]:
            other += 1
        best = mine
        if other < len(fallen_share_E):
            best = max(mine, predicted_C[fallen_category_E[other]] * fallen_share_E[other])
        if ties and best != value:
            _earn(value, above, ties, held, gain, expected, realised, rank)
            above, ties, held = above + ties, 0, False
        if best <= 0:
            break
        value = best
        if best == mine:
            ties, held = ties + count_E[at[whose]], held or at[whose] == target
            at[whose] += 1
            mine, whose = _foremost(predicted_C, seen, share_E, at, end)
        else:
            ties, held = ties + fallen_count_E[other], held or fallen_run_E[other] == target
            other += 1


@compiled
def _foremost(predicted_C: Any, seen: Any, share_E: Any, at: Any, end: Any) -> Any:
    """Return the probability of the most probable run left in the seen categories, and the index of its category."""
    best, whose = 0.0, -1
    for j in range(len(seen)):
        if at[j] < end[j] and predicted_C[seen[j]] * share_E[at[j]] > best:
            best, whose = predicted_C[seen[j]] * share_E[at[j]], j
    return best, whose


@compiled
def _earn(value: Any, above: Any, ties: Any, held: Any, gain: Any, expected: Any, realised: Any, rank: Any) -> None:
    """Add the gains of `ties` items of equal probability below `above` others; held: the actual one is there."""
    for k in range(len(expected)):
        earned = gain[above + ties, k] - gain[above, k]
        expected[k] += value * earned
        if held:
            realised[k] = earned / ties
    if held:
        rank[0] = above + (ties + 1) / 2
