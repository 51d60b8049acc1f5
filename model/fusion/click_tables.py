"""What the loops of click probabilities read and write (click_loops.py), and the constants of their features.

T impressions, A rank actions, H heads, F features, V items, L tokens. An impression is a shown item: the target of a
ranking. Its features are named in FEATURES, by index; click_loops.py says what they are.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.counting.pair_counts import PairColumns
from stream.example import Kind

Array = NDArray[Any]

FEATURES: Final = (
    "bias", "item_rate", "user_rate", "own_acts", "own_views", "views", "shown_together", "acted_together", "history",
    "place", "tower",
)  # fmt: skip
BIAS, ITEM_RATE, USER_RATE, OWN_ACTS, OWN_VIEWS, VIEWS, SHOWN, ACTED, HISTORY, PLACE, TOWER = range(len(FEATURES))
LAGS: Final = 20  # last items that a shown item is paired with: those shown before, and those acted on before
PRIOR: Final = 20.0  # views at the base rate that every rate starts with
MOST_RATE: Final = 1 - 2.0**-53  # of an action; as of a time long before its counts it rounds to 1, of infinite odds
SHRINK: Final = 4.0  # pairs as often as by chance that each lift starts with
RATE: Final = 0.1  # of Adagrad
TINY: Final = 1e-6  # added to its squares, so that rounding of a feature that is 0 moves nothing
OTHER, VIEWED = -2, -1  # of a token; an action is its index
USED_SHOWN, USED_ACTED, DISTINCT = range(3)  # in `facts`


class Impressions(NamedTuple):
    """Impressions in their order, with the tokens of their users."""

    targets: Array  # [T] row of the shown item, -1 where it has none
    groups: Array  # [T] number of the request, ascending
    starts: Array  # [T] first token of the history, into L
    queries: Array  # [T] last token of it, -1: none
    places: Array  # [T] place in the slate, from 0
    labels: Array  # [T, A] bool
    towers: Array  # [T, A] the towers' logits; [T, 0] where there are none
    rows: Array  # [L] row of the token's item, -1 where it has none
    whats: Array  # [L] OTHER, VIEWED, or the index of the action


class Fades(NamedTuple):
    """How counts fade."""

    weights: Array  # [T] of a count at the request, as of the clock's origin; 0 where nothing is counted
    factors: Array  # [T] by which counts become counts as of the request


class ClickCounts(NamedTuple):
    """What is counted, as of the clock's origin."""

    views: Array  # [V]
    acts: Array  # [V, A]
    totals: Array  # [1 + A] of views, of acts
    facts: Array  # [3]
    shown: PairColumns
    shown_rooms: Array
    shown_totals: Array  # [V + 1] pairs of each item; last of all
    acted: PairColumns
    acted_rooms: Array
    acted_totals: Array  # [V + 1]


class ClickHeads(NamedTuple):
    """Logistic regressions over the same features."""

    weights: Array  # [H, A, F]
    squares: Array  # [H, A, F] of Adagrad
    towers: Array  # [H] whether the tower's logit is a feature; if not, its weight stays 0


def whats(kinds_L: Array, actions_L: Array, ranked_A: Array) -> NDArray[np.int64]:
    """Return what the click probabilities see in each token: OTHER, VIEWED, or the index of the action, [L].

    Args:
        kinds_L: Values of stream.example.Kind.
        actions_L: Actions, by key or by row.
        ranked_A: The rank actions, in the same way.
    """
    found_L = np.where(kinds_L == Kind.IMPRESSION, VIEWED, OTHER)
    acted_L = kinds_L == Kind.ACTION
    for a, action in enumerate(ranked_A):
        found_L[acted_L & (actions_L == action)] = a
    return found_L
