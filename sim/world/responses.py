"""How users respond in one tick: organic clicks, or clicks on slates, each with its time.

R = requests of the tick, k = places of a slate, A = clicks. Random numbers belong to the request and the place, not to
the item: two recommenders that show the same item at the same place get the same response.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.world.rng import Use, rng_for
from sim.world.slates import click_probabilities, delays_ms, shown_by_policy
from sim.world.world import Law, World


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """The requests of one tick."""

    tick: int
    first: int
    """Number of the first request in the stream."""
    users: NDArray[np.int64]  # [R]
    ts_ms: NDArray[np.int64]  # [R]
    law: Law


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """The clicks of one tick, in the order of their requests and places."""

    request: NDArray[np.int64]  # [A] number of the request
    user: NDArray[np.int64]  # [A]
    item: NDArray[np.int64]  # [A] id
    place: NDArray[np.int64]  # [A] index of the item in LiveItems
    ts_ms: NDArray[np.int64]  # [A]


def requests_of(world: World, tick: int) -> Requests:
    """Return the requests of a tick."""
    first, stop = (int(request) for request in world.first_requests[tick : tick + 2])
    users_R, ts_R = world.visits.users[first:stop], world.visits.ts_ms[first:stop]
    return Requests(tick, first, users_R, ts_R, world.law_of(users_R, tick))


def organic(world: World, requests: Requests) -> Clicks:
    """Draw one click for each request."""
    rng = rng_for(world.settings.base.seed, Use.CHOICE, requests.tick)
    place_R = requests.law.draw(rng, 1)[:, 0]
    number_R = requests.first + np.arange(len(requests.users))
    return Clicks(number_R, requests.users, requests.law.live.items[place_R], place_R, requests.ts_ms)


def policy_slates(world: World, requests: Requests) -> NDArray[np.int64]:
    """Return the slates of the log as places among the live items, [R, k]."""
    return shown_by_policy(world, requests.law, requests.tick)


def clicks_on(world: World, requests: Requests, shown_Rk: NDArray[np.int64]) -> Clicks:
    """Draw the clicks on slates, without those that would come after the death of their item."""
    settings = world.settings
    seed, shape = settings.base.seed, shown_Rk.shape
    clicked_Rk = rng_for(seed, Use.CLICKS, requests.tick).random(shape) < click_probabilities(
        settings, requests.law, shown_Rk
    )
    late_Rk = requests.ts_ms[:, None] + delays_ms(settings, rng_for(seed, Use.DELAYS, requests.tick), shape)
    row_A, column_A = np.nonzero(clicked_Rk)
    place_A, ts_A = shown_Rk[row_A, column_A], late_Rk[row_A, column_A]
    item_A = requests.law.live.items[place_A]
    alive_A = ts_A < dies_ms(world, item_A)
    columns = (requests.first + row_A, requests.users[row_A], item_A, place_A, ts_A)
    return Clicks(*(column[alive_A] for column in columns))


def dies_ms(world: World, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return when items die, in ms; far in the future for those that outlive the stream."""
    ticks_ms = np.array([world.begins_ms(tick) for tick in range(world.ticks)] + [2**53], np.int64)
    return ticks_ms[world.items.dies[items]]
