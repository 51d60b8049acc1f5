"""The seer, an upper bound: the figures of a ranking that knows every user's hidden taste and the world's state.

R = requests of a tick, V = live items, k = places, T = clicks of the whole stream. The seer ranks all items that live
at the request's time by the probability that this user clicks them, ties by id. For organic clicks that is
p(item | user, time), and expected figures are sums of p over the first items. With slates the seer does not know what
was shown: it ranks by relevance × probability of being shown, and expected figures are those of the clicks that the
shown slates could bring, each with its probability.

A recommender's candidates are the items that a token has shown before; the seer's are all live items. For a closed loop
these are the figures of its log, in which the policy shows; what counts there is regret (closed_loop.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.world.responses import Requests, clicks_on, organic, policy_slates, requests_of
from sim.world.slates import click_probabilities, relevance
from sim.world.world import World

HIT_AT: Final = (10, 50)
_GAIN_10: Final = 1 / np.log2(2 + np.arange(10))


@dataclass(frozen=True, slots=True, eq=False)
class Seer:
    """Expected figures of each request, and the realised rank of each click. Times are those of the requests."""

    ts_ms: NDArray[np.int64]  # [R]
    targets: NDArray[np.float64]  # [R] expected clicks; 1 where clicks are organic
    hr10: NDArray[np.float64]  # [R] expected clicks on the first 10 of the ranking
    hr50: NDArray[np.float64]  # [R]
    ndcg10: NDArray[np.float64]  # [R]
    requests: NDArray[np.int64]  # [T] number of each click's request
    users: NDArray[np.int64]  # [T]
    items: NDArray[np.int64]  # [T]
    ranks: NDArray[np.int64]  # [T] of the item clicked, 1 the best

    def expected(self, share: float = 0.0, until_share: float = 1.0) -> dict[str, float]:
        """Return the expected figures per click over a part of the requests."""
        part = slice(round(share * len(self.ts_ms)), round(until_share * len(self.ts_ms)))
        targets = float(self.targets[part].sum()) or np.nan
        return {name: float(getattr(self, name)[part].sum()) / targets for name in ("hr10", "hr50", "ndcg10")}

    def realised(self, share: float = 0.0, until_share: float = 1.0) -> dict[str, float]:
        """Return the figures of the clicks that happened, over the same part."""
        requests = len(self.ts_ms)
        first, stop = round(share * requests), round(until_share * requests)
        ranks = self.ranks[(self.requests >= first) & (self.requests < stop)]
        gained = np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0)
        hr10, hr50 = ((ranks <= k) for k in HIT_AT)
        columns = {"hr10": hr10, "hr50": hr50, "ndcg10": gained, "mrr": 1 / ranks}
        return {name: float(column.mean()) if len(ranks) else np.nan for name, column in columns.items()}


def foresee(world: World, ticks: Iterable[int] | None = None) -> Seer:
    """Return the seer's figures of the whole stream, or of some of its ticks."""
    figures = _organic if world.settings.slates is None else _slates
    parts = []
    for tick in range(world.ticks) if ticks is None else ticks:
        requests = requests_of(world, tick)
        parts.append((requests.ts_ms, *figures(world, requests)))
    return Seer(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _organic(world: World, requests: Requests) -> Iterator[NDArray[np.int64] | NDArray[np.float64]]:
    clicks = organic(world, requests)
    p_RV = requests.law.all()
    best_RK = _best(p_RV, max(HIT_AT))
    yield np.ones(len(p_RV))
    for k in HIT_AT:
        yield best_RK[:, :k].sum(axis=1)
    yield best_RK[:, :10] @ _GAIN_10[: best_RK[:, :10].shape[1]]
    yield clicks.request
    yield clicks.user
    yield clicks.item
    yield _ranks(p_RV, requests.law.live.items, clicks.place[:, None])[:, 0]


def _slates(world: World, requests: Requests) -> Iterator[NDArray[np.int64] | NDArray[np.float64]]:
    shown_Rk = policy_slates(world, requests)
    clicks = clicks_on(world, requests, shown_Rk)
    rank_Rk = _ranks(_likely(world, requests), requests.law.live.items, shown_Rk)
    p_Rk = click_probabilities(world.settings, requests.law, shown_Rk)
    gain_Rk = np.where(rank_Rk <= 10, 1 / np.log2(1.0 + rank_Rk), 0.0)
    yield p_Rk.sum(axis=1)
    for k in HIT_AT:
        yield (p_Rk * (rank_Rk <= k)).sum(axis=1)
    yield (p_Rk * gain_Rk).sum(axis=1)
    row_A = clicks.request - requests.first
    yield clicks.request
    yield clicks.user
    yield clicks.item
    yield rank_Rk[row_A, np.argmax(shown_Rk[row_A] == clicks.place[:, None], axis=1)]


def _likely(world: World, requests: Requests) -> NDArray[np.float64]:
    """Return the seer's scores of items that may have been shown: relevance × probability of being shown, [R, V].

    1 - (1 - q)^k stands for the probability that k draws without repetition show an item of share q: it has the same
    order.
    """
    slates, law = world.settings.slates, requests.law
    assert slates is not None
    p_RV, live = law.all(), len(law.live)
    by_policy = {
        "taste": p_RV,
        "popularity": law.live.weight / law.live.weight.sum(),
        "uniform": np.full(live, 1 / live),
    }[slates.policy]
    q_RV = (1 - slates.explore) * by_policy + slates.explore / live
    score_RV: NDArray[np.float64] = relevance(world.settings, law, p_RV) * (1 - (1 - q_RV) ** slates.size)
    return score_RV


def _best(p_RV: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the largest probabilities of each row, falling, [R, min(count, V)]."""
    count = min(count, p_RV.shape[1])
    top_RK = -np.partition(-p_RV, count - 1, axis=1)[:, :count]
    return -np.sort(-top_RK, axis=1)


def _ranks(score_RV: NDArray[np.float64], items: NDArray[np.int64], place_Rk: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of some places in each row, 1 the best, ties by id, [R, k]."""
    own_Rk = np.take_along_axis(score_RV, place_Rk, axis=1)
    rank_Rk = np.empty(place_Rk.shape, np.int64)
    for column, (own_R, place_R) in enumerate(zip(own_Rk.T, place_Rk.T, strict=True)):
        above_R = (score_RV > own_R[:, None]).sum(axis=1)
        tied_R = ((score_RV == own_R[:, None]) & (items < items[place_R][:, None])).sum(axis=1)
        rank_Rk[:, column] = 1 + above_R + tied_R
    return rank_Rk
