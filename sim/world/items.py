"""Items: when each is born, when it dies, its category and its weight there.

I = items that ever live, N = ticks. An item lives in the ticks [born, dies); dies = N: it outlives the stream.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.world.rng import Use, rng_for
from sim.world.settings import WorldSettings


@dataclass(frozen=True, slots=True)
class Items:
    """All items of one world, in the order of their births; an item's id is its index here."""

    born: NDArray[np.int64]  # [I] tick, ascending
    dies: NDArray[np.int64]  # [I] tick
    category: NDArray[np.int64]  # [I]
    weight: NDArray[np.float64]  # [I] within its category, before any shock

    def __len__(self) -> int:
        return len(self.born)


def draw_items(settings: WorldSettings, ticks: int) -> Items:
    """Draw the items of a world."""
    base = settings.base
    rng = rng_for(base.seed, Use.ITEMS)
    born_I, dies_I = _lives(settings, ticks, rng)
    category_I = rng.integers(base.categories, size=len(born_I))
    category_I[: base.categories] = rng.permutation(base.categories)
    crowd = base.items / base.categories
    weight_I = (1 + crowd * rng.random(len(born_I))) ** -base.zipf
    return Items(born_I, dies_I, category_I, weight_I)


def _lives(
    settings: WorldSettings, ticks: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ticks of birth and death, [I]: in each tick as many are born as it lacks."""
    wanted_N = _wanted(settings, ticks)
    deaths_N = np.zeros(ticks + 1, np.int64)
    born: list[NDArray[np.int64]] = []
    dies: list[NDArray[np.int64]] = []
    live = 0
    for tick in range(ticks):
        live -= int(deaths_N[tick])
        missing = int(wanted_N[tick]) - live
        if missing > 0:
            ends = np.minimum(tick + _lifetimes(settings, missing, ticks, tick == 0, rng), ticks)
            np.add.at(deaths_N, ends, 1)
            born.append(np.full(missing, tick))
            dies.append(ends)
            live += missing
    return np.concatenate(born), np.concatenate(dies)


def _wanted(settings: WorldSettings, ticks: int) -> NDArray[np.int64]:
    """Return how many items live in each tick, [N]."""
    items, growth = settings.base.items, settings.growth
    if growth is None:
        return np.full(ticks, items)
    share_N = growth.first + (1 - growth.first) * (np.arange(ticks) / max(1, ticks - 1)) ** growth.power
    return np.maximum(1, (share_N * items + 1e-9).astype(np.int64))


def _lifetimes(
    settings: WorldSettings, count: int, ticks: int, first: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw lifetimes in ticks, at least 1; of fixed ones the `first` items have a random part left."""
    turnover = settings.turnover
    if turnover is None:
        return np.full(count, ticks)
    mean = turnover.lifetime_d / settings.base.days * ticks
    if turnover.law == "exponential":
        drawn = rng.standard_exponential(count) * mean
    else:
        drawn = mean * (rng.random(count) if first else np.ones(count))
    return np.ceil(np.clip(drawn, 1, ticks)).astype(np.int64)
