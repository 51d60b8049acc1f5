"""What users answer in one tick: organic clicks, or clicks on slates, each with its time.

R = requests of the tick, k = places of a slate, A = clicks. Chance belongs to the request and the place, not to the
item: two recommenders that show the same item at the same place get the same answer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.world.rng import Use, rng_for
from sim.world.slates import click_probabilities, delays_ms, shown_by_policy
from sim.world.world import Law, World


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Those of one tick."""

    tick: int
    first: int
    """Number of the first one."""
    users: NDArray[np.int64]  # [R]
    ts_ms: NDArray[np.int64]  # [R]
    law: Law


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """In order of their requests and places."""

    request: NDArray[np.int64]  # [A] its number
    user: NDArray[np.int64]  # [A]
    item: NDArray[np.int64]  # [A] id
    place: NDArray[np.int64]  # [A] among the live items
    ts_ms: NDArray[np.int64]  # [A]


def requests_of(world: World, tick: int) -> Requests:
    """Give the requests of a tick."""
    first, stop = int(world.cuts[tick]), int(world.cuts[tick + 1])
    users_R, ts_R = world.visits.users[first:stop], world.visits.ts_ms[first:stop]
    return Requests(tick, first, users_R, ts_R, world.law_of(users_R, tick))


def organic(world: World, asked: Requests) -> Clicks:
    """Draw one click for each request."""
    rng = rng_for(world.settings.base.seed, Use.CHOICE, asked.tick)
    place_R = asked.law.draw(rng, 1)[:, 0]
    number_R = asked.first + np.arange(len(asked.users))
    return Clicks(number_R, asked.users, asked.law.live.items[place_R], place_R, asked.ts_ms)


def policy_slates(world: World, asked: Requests) -> NDArray[np.int64]:
    """Give the slates of the log: places among the live items, [R, k]."""
    return shown_by_policy(world, asked.law, asked.tick)


def clicks_on(world: World, asked: Requests, shown_Rk: NDArray[np.int64]) -> Clicks:
    """Draw the clicks on slates; one that would come when its item is dead does not come."""
    settings = world.settings
    seed, shape = settings.base.seed, shown_Rk.shape
    clicked_Rk = rng_for(seed, Use.CLICKS, asked.tick).random(shape) < click_probabilities(
        settings, asked.law, shown_Rk
    )
    late_Rk = asked.ts_ms[:, None] + delays_ms(settings, rng_for(seed, Use.DELAYS, asked.tick), shape)
    row_A, column_A = np.nonzero(clicked_Rk)
    place_A, ts_A = shown_Rk[row_A, column_A], late_Rk[row_A, column_A]
    item_A = asked.law.live.items[place_A]
    alive_A = ts_A < dies_ms(world, item_A)
    columns = (asked.first + row_A, asked.users[row_A], item_A, place_A, ts_A)
    return Clicks(*(column[alive_A] for column in columns))


def dies_ms(world: World, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give when items die; far in the future where the stream ends before."""
    ticks_ms = np.array([world.begins_ms(tick) for tick in range(world.ticks)] + [2**53], np.int64)
    return ticks_ms[world.items.dies[items]]
