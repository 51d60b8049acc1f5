"""Slates: which items are shown, which of them are clicked, and when the clicks come.

R = requests of one tick, k = places of a slate, V = live items. The formulas are in sim/scenarios/__init__.py.
"""

import numpy as np
from numpy.typing import NDArray

from sim.world.rng import Use, rng_for
from sim.world.settings import Delay, Slates, WorldSettings
from sim.world.world import Law, World

ROUNDS = 4  # of drawing by the policy; what is still missing then is drawn from all live items alike
CLICK_S = 2.0  # without a table [delay]


def shown_by_policy(world: World, law: Law, tick: int, shown_Rk: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return slates by the logging policy: places among the live items, [R, k], each place at most once.

    Args:
        world: The world whose policy it is.
        law: The law of the requests.
        tick: The tick of the requests.
        shown_Rk: Slates that are begun, -1 in their free places; None means empty slates.
    """
    slates = _slates(world.settings)
    if shown_Rk is None:
        shown_Rk = np.full((len(law.taste), slates.size), -1)
    rng, explorer = (rng_for(world.settings.base.seed, use, tick) for use in (Use.CHOICE, Use.EXPLORE))
    for _ in range(ROUNDS):
        drawn = _draw(law, slates, rng, explorer)
        if _fill(shown_Rk, drawn):
            return shown_Rk
    for row in np.flatnonzero(shown_Rk[:, -1] < 0):
        left = np.setdiff1d(explorer.permutation(len(law.live)), shown_Rk[row], assume_unique=True)
        there = int((shown_Rk[row] >= 0).sum())
        shown_Rk[row, there:] = left[: slates.size - there]
    return shown_Rk


def _draw(law: Law, slates: Slates, rng: np.random.Generator, explorer: np.random.Generator) -> NDArray[np.int64]:
    """Draw places with repetition, three times as many as a slate has."""
    count = 3 * slates.size
    drawn: NDArray[np.int64]
    if slates.policy == "taste":
        drawn = law.draw(rng, count)
    else:
        weight_V = law.live.weight if slates.policy == "popularity" else np.ones(len(law.live))
        edge_V = np.cumsum(weight_V)
        wanted = rng.random((len(law.taste), count)) * edge_V[-1]
        drawn = np.minimum(np.searchsorted(edge_V, wanted, side="right"), len(edge_V) - 1)
    if slates.explore:
        whether, which = explorer.random((2, *drawn.shape))
        drawn = np.where(whether < slates.explore, (which * len(law.live)).astype(np.int64), drawn)
    return drawn


def _fill(shown_Rk: NDArray[np.int64], drawn_RM: NDArray[np.int64]) -> bool:
    """Fill free places with what was drawn, in its order and each item once; return whether none is free any more."""
    size = shown_Rk.shape[1]
    count_R = (shown_Rk >= 0).sum(axis=1)
    for drawn_R in drawn_RM.T:
        news = np.flatnonzero((count_R < size) & ~(shown_Rk == drawn_R[:, None]).any(axis=1))
        shown_Rk[news, count_R[news]] = drawn_R[news]
        count_R[news] += 1
    return bool((count_R == size).all())


def examined(settings: WorldSettings) -> NDArray[np.float64]:
    """Return the probability that each place is looked at, [k]; it never rises."""
    decay = settings.position.decay if settings.position else 0.0
    looked_at_k: NDArray[np.float64] = np.arange(1, 1 + _slates(settings).size, dtype=np.float64) ** -decay
    return looked_at_k


def relevance(settings: WorldSettings, law: Law, p_Rk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that an item of probability p is clicked when it is looked at, [R, k]; it rises with p."""
    lift_Rk = p_Rk * len(law.live)
    return lift_Rk / (lift_Rk + _slates(settings).half_lift)


def click_probabilities(settings: WorldSettings, law: Law, shown_Rk: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability that each shown item is clicked, [R, k]."""
    return examined(settings)[: shown_Rk.shape[1]] * relevance(settings, law, law.at(shown_Rk))


def delays_ms(settings: WorldSettings, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Draw the time from slates to their clicks, in ms."""
    delay = settings.delay or Delay(law="fixed", seconds=CLICK_S)
    if delay.law == "exponential":
        factor = rng.standard_exponential(shape)
    elif delay.law == "lognormal":
        factor = np.exp(delay.sigma * rng.standard_normal(shape))
    else:
        factor = np.ones(shape)
    return np.maximum(1, np.minimum(delay.seconds * 1000 * factor, 2**52)).astype(np.int64)


def _slates(settings: WorldSettings) -> Slates:
    assert settings.slates is not None
    return settings.slates
