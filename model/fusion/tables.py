"""What the loops of a log-linear model read and write (loops.py), and the constants of its features.

T events, V items, L tokens, m = LAGS last items, D = width of an encoder, P = POPULARITIES, F = features of an item,
H = heads, C = classes of history length, N = rows of the pool, n = listed rows.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from model.counting.neighbours import Histories, Memory
from model.counting.pair_counts import PairColumns

Array = NDArray[Any]

POPULARITIES: Final = 6  # half-lives with which occurrences are counted
LAGS: Final = 20  # last items of a user that are looked at
FADE: Final = 0.9  # weight of an item a place further back, where pairs are counted and where they are looked up
SHRINK: Final = 30.0  # added to the denominator of a cosine
PAIRS: Final = 1 << 22  # in all; of an item its part of them, within these bounds:
MOST: Final = 2048
LEAST: Final = 256
STRENGTH: Final = 2.0  # transitions to unknown items that each item starts with
RATE: Final = 0.2  # of Adagrad
FIRST_SQUARES: Final = 10.0  # sums of squares that Adagrad begins with
NOISE: Final = 10.0  # weight of a target that comes by chance, in items
ENCODER: Final = 0  # first feature; then popularities, then those of listed rows:
TOGETHER, FOLLOWING, OWN, OWN_FOLLOWING, NEIGHBOURS = range(5)
LISTED: Final = 5
ACTED: Final = LISTED  # a mark and no feature: above 0 where the user has acted on the item
DISTINCT, EVENTS, REFRESH_AT, USED_TOGETHER, USED_FOLLOWING = range(5)  # in `facts`


class Events(NamedTuple):
    """Events in their order, with the rows of their items after admission."""

    targets: Array  # [T]
    request_ms: Array  # [T]
    groups: Array  # [T] number of the group, ascending
    users: Array  # [T] key of the user
    classes: Array  # [T] class of history length
    starts: Array  # [T] first token of the history, into L
    queries: Array  # [T] last token of it
    rows: Array  # [L] item acted on or shown, -1 at other tokens
    acted: Array  # [L] whether it was acted on
    last: Array  # [T, m] last items, latest first, -1 where there are fewer
    weights: Array  # [T, P] weight of an occurrence, as of the clocks' origins
    pair_weights: Array  # [T]
    pair_factors: Array  # [T] by which pair counts become counts as of the event
    encoded: "Encoded"


class Encoded(NamedTuple):
    """The encoder's logits of items: of all for some events, and of some for all."""

    hidden: Array  # f32 [m, V] of all items; [m, 0] where there is no encoder
    places: Array  # [T] the event's row in it, -1: none
    queries: Array  # f32 [T, D] for logits of the items that an event learns by; [0, D]: it learns by `hidden`
    units: Array  # f32 [V, D] unit vectors of the items
    temperature: np.float32


class Items(NamedTuple):
    """A vocabulary as of some moment."""

    born_ms: Array  # [V]
    live: Array  # [V]


class Counts(NamedTuple):
    """What is counted."""

    sums: Array  # [V, P] as of the clocks' origins
    totals: Array  # [P]
    features: Array  # [V, P] of popularity; those of items without a new event are up to REFRESH events old
    facts: Array  # [5]
    together: PairColumns
    together_rooms: Array
    together_roots: Array  # [V] of the number of pairs of each item
    together_totals: Array  # [V]
    following: PairColumns
    following_rooms: Array
    following_totals: Array  # [V]
    histories: Histories


class Heads(NamedTuple):
    """Log-linear models over the same features."""

    weights: Array  # [H, C, F]
    squares: Array  # [H, C, F] of Adagrad
    gradients: Array  # [H, C, F] summed over the group
    hits: Array  # [H, C] events in that sum
    new_only: Array  # [H] whether items of the user's history are no candidates
    encoded: Array  # [H] whether the encoder's logits are a feature


class Room(NamedTuple):
    """Memory of the loops."""

    at: Array  # [V] where an item is listed, -1: not
    rows: Array  # [n]
    features: Array  # [n, LISTED + 1], the last is ACTED
    every: Array  # [V] 0, 1, 2, …
    scores: Array  # [V]
    pool_scores: Array  # [N]
    hidden: Array  # [V] logits of the items that an event learns by
    memory: Memory


class Pool(NamedTuple):
    """Rows over which a sum over all items is estimated."""

    rows: Array  # [N]
    counts: Array  # [N] expected number of times that the row is in the pool


@compiled
def pairs_of_item(facts: Array) -> int:
    """Return how many pairs an item may have: its part of PAIRS, within bounds."""
    return int(min(MOST, max(LEAST, PAIRS // max(1, facts[DISTINCT]))))
