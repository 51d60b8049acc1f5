"""The impressions of a world with the times of their clicks, and the features that a regression sees of each.

T = impressions in the order of their requests, k = places of a slate, K = features of an impression, F = rows: what has
a weight. A feature is a row and a value. Rows of value 1 are the bias, the place, the item, its category, the user, and
the pair of user and category. The others are of the user's history as of the request, which has all clicks that have
come by then, in time or late: how often the user clicks, and clicks on the category, over what is usual; and how often
the item was clicked on and shown. So delays of labels touch what is learnt, and never what is known of the user.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from sim.world.events import Happening, WorldStream
from sim.world.world import World

NEVER: Final = 2**62  # ms
PRIOR: Final = 20.0  # views at the usual rate that a rate starts with
HISTORY: Final = 4  # features of the history
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Shown(NamedTuple):
    """Impressions and their features."""

    ts_ms: Ints  # [T]
    acted_ms: Ints  # [T] time of the click, NEVER where there is none
    user: Ints  # [T]
    item: Ints  # [T]
    places: int  # k
    rows: Ints  # [T, K]
    values: Floats  # [T, K]
    count: int  # F


def shown_in(world: World) -> Shown:
    """Return the impressions of a world."""
    columns, base = WorldStream("", world).columns, world.base
    item_Rk, user_R = columns.shown, world.visits.users
    requests, places = item_Rk.shape
    click = columns.what == Happening.CLICK
    of_click = columns.request[click]
    place_A = (item_Rk[of_click] == columns.item[click][:, None]).argmax(1)
    acted_Rk = np.full(item_Rk.shape, NEVER)
    acted_Rk[of_click, place_A] = columns.ts_ms[click]
    item, user, ts = item_Rk.ravel(), np.repeat(user_R, places), np.repeat(world.visits.ts_ms, places)
    category = world.items.category[item]
    pair, acted = user * base.categories + category, acted_Rk.ravel()
    kinds = (np.tile(np.arange(places), requests), item, category, user, pair)
    sizes = (places, len(world.items), base.categories, base.users, base.users * base.categories)
    first = 1 + HISTORY + np.concatenate(([0], np.cumsum(sizes)))
    fixed = np.broadcast_to(np.arange(1 + HISTORY), (len(item), 1 + HISTORY))
    rows = np.column_stack((fixed, *(kind + start for kind, start in zip(kinds, first[:-1], strict=True))))
    own = np.unique(user * len(world.items) + item, return_inverse=True)[1]
    history = _history(places, ts, acted, np.argsort(acted, kind="stable"), user, pair, own, sizes[3], sizes[4])
    values = np.column_stack((np.ones(len(item)), history, np.ones((len(item), len(kinds)))))
    return Shown(ts, acted, user, item, places, rows, values, int(first[-1]))


@compiled
def _history(
    places: int, ts_T: Ints, acted_T: Ints, clicks_T: Ints, user_T: Ints, pair_T: Ints, own_T: Ints, users: int,
    pairs: int,
) -> Floats:  # fmt: skip
    """Return the features of the user's history as of each request, [T, HISTORY]."""
    found = np.empty((len(ts_T), HISTORY))
    user_2, pair_2, own_2 = np.zeros((users, 2)), np.zeros((pairs, 2)), np.zeros((own_T.max() + 1, 2))
    come, total = 0, np.ones(2)  # views, clicks
    for start in range(0, len(ts_T), places):
        while come < len(clicks_T) and acted_T[clicks_T[come]] < ts_T[start]:
            t, come = clicks_T[come], come + 1
            total[1] += 1.0
            user_2[user_T[t], 1] += 1.0
            pair_2[pair_T[t], 1] += 1.0
            own_2[own_T[t], 1] += 1.0
        usual = total[1] / total[0]
        for t in range(start, start + places):
            for f, (views, clicks) in enumerate((user_2[user_T[t]], pair_2[pair_T[t]])):
                found[t, f] = np.log((clicks / usual + PRIOR) / (views + PRIOR))
            found[t, 2], found[t, 3] = np.log1p(own_2[own_T[t], 1]), np.log1p(own_2[own_T[t], 0])
        for t in range(start, start + places):
            total[0] += 1.0
            user_2[user_T[t], 0] += 1.0
            pair_2[pair_T[t], 0] += 1.0
            own_2[own_T[t], 0] += 1.0
    return found
