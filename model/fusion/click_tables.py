"""What the loops of click probabilities read and write (click_loops.py), and the constants of their features.

T impressions, A rank actions, H heads, F features, V items, L tokens, W values of an item, R rows of the feature table.
An impression is a shown item: the target of a ranking. Its features are named in FEATURES, by index; click_loops.py
says what they are. What the catalogue says of items is called its values here.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.counting.pair_counts import PairColumns
from stream.example import Kind

Array = NDArray[Any]

FEATURES: Final = (
    "bias", "item_rate", "user_rate", "own_acts", "own_views", "views", "shown_together", "acted_together",
    "own_values", "value_rate", "own_value_rate", "history", "place", "tower",
)  # fmt: skip
BIAS, ITEM_RATE, USER_RATE, OWN_ACTS, OWN_VIEWS, VIEWS, SHOWN, ACTED = range(8)
OWN_VALUES, VALUE_RATE, OWN_VALUE_RATE, HISTORY, PLACE, TOWER = range(8, len(FEATURES))
LAGS: Final = 20  # last items that a shown item is paired with: those shown before, and those acted on before
PRIOR: Final = 10.0  # views that every rate starts with, of the rate that it is compared with
MOST_RATE: Final = 1 - 2.0**-53  # of an action; as of a time long before its counts it rounds to 1, of infinite odds
SHRINK: Final = 4.0  # pairs as often as by chance that each lift starts with
VARIANCE: Final = 0.1  # of a weight at first, and at most
DRIFT: Final = 5e-6  # variance that a weight gains by an impression, times that of its label
LEAST: Final = 0.025  # variance of a label in a step, at least: a surprise moves a logit by 40 at most
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


class ItemValues(NamedTuple):
    """What the catalogue says of the items (model/data/item_features.py), [V, W]; [0, 0] if it says nothing."""

    rows: Array  # of the feature table, -1 where there is no further value
    weights: Array


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
    value_views: Array  # [R] of items with each value
    value_acts: Array  # [R, A]
    described: Array  # [1] views of items with any value, those of the dead among them


class ClickHeads(NamedTuple):
    """Logistic regressions over the same features."""

    weights: Array  # [H, A, F]
    covariances: Array  # [H, A, F, F] of what is not known of them; 0 for a weight that stays as it is


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
