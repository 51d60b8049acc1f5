"""The rank of a target by the score of a log-linear model: what scores above it is counted, and no score is kept.

V rows of items, P = popularities, H = heads that rank, n = listed rows; more letters in loops.py. The score of most
items is that of the encoder and popularity alone, so these are counted first, block by block, for all heads while a
block is in the processor's cache; then the count is put right for listed rows and for items that are no candidates.
"""

from functools import partial

import numpy as np

from model.arrays.jit import compiled
from model.fusion import tables
from model.fusion.tables import ACTED, ENCODER, LISTED, POPULARITIES, Array, Counts, Events, Heads, Items, Room

_CALLED = (tables.__file__,)
_BLOCK = 2048  # items


@partial(compiled, calls=_CALLED)
def _base(v: int, hidden_V: Array, features_VP: Array, weights: Array) -> float:
    """Return the score of an item by the encoder and popularity."""
    score = weights[ENCODER] * hidden_V[v] if len(hidden_V) else 0.0
    for p in range(POPULARITIES):
        score += weights[1 + p] * features_VP[v, p]
    return score


@partial(compiled, calls=_CALLED)
def _extra(features: Array, weights: Array) -> float:
    """Return what a listed row scores beyond that."""
    score = 0.0
    for f in range(LISTED):
        score += weights[len(weights) - LISTED + f] * features[f]
    return score


@partial(compiled, calls=_CALLED)
def _count(
    start: int, stop: int, own: float, hidden_V: Array, features_VP: Array, weights: Array
) -> tuple[int, int, int]:
    """Return how many items of a block score more than a target, as much, and nothing that is a number."""
    higher = equal = odd = 0
    if len(hidden_V):
        for v in range(start, stop):
            score = weights[ENCODER] * hidden_V[v]
            for p in range(POPULARITIES):
                score += weights[1 + p] * features_VP[v, p]
            higher += score > own
            equal += score == own
            odd += score != score
    else:
        for v in range(start, stop):
            score = 0.0
            for p in range(POPULARITIES):
                score += weights[1 + p] * features_VP[v, p]
            higher += score > own
            equal += score == own
            odd += score != score
    return higher, equal, odd


@partial(compiled, calls=_CALLED)
def _add(counts: Array, sign: int, score: float, own: float) -> None:
    counts[0] += sign * (score > own)
    counts[1] += sign * (score == own)
    counts[2] += sign * (score != score)


@partial(compiled, calls=_CALLED)
def rank(
    t: int, n: int, ranked: Array, target: int, events: Events, asked: Items, barred: Array, counts: Counts,
    heads: Heads, room: Room, rank_HT: Array,
) -> None:  # fmt: skip
    """Compute the ranks of an event's target, equal scores sharing their mean rank.

    Infinite where it is no candidate; NaN where a candidate's score is NaN.

    Args:
        t: The event.
        n: How many rows are listed for it.
        ranked: Heads that rank.
        target: Row of the target among the items asked about, -1: unknown.
        events: The events.
        asked: Items as they were when the question was asked.
        barred: Those of them that may be no candidates.
        counts: Counts.
        heads: Heads.
        room: Memory, with the listed rows.
        rank_HT: Ranks to be filled in.
    """
    size, request_ms = len(asked.born_ms), events.request_ms[t]
    live, born_ms, features_VP = asked.live, asked.born_ms, counts.features
    hidden = events.encoded.hidden[events.encoded.places[t]]
    own, found = np.zeros(len(ranked)), np.zeros((len(ranked), 3), np.int64)
    possible = np.zeros(len(ranked), np.bool_)
    for k in range(len(ranked)):
        h = ranked[k]
        rank_HT[h, t] = np.inf
        if 0 <= target < size and live[target] and born_ms[target] < request_ms:
            at, weights = room.at[target], heads.weights[h, events.classes[t]]
            possible[k] = at < 0 or not (heads.new_only[h] and room.features[at, ACTED] > 0)
            own[k] = _base(target, hidden, features_VP, weights)
            if at >= 0:
                own[k] += _extra(room.features[at], weights)
    for start in range(0, size, _BLOCK):
        for k in range(len(ranked)):
            if possible[k]:
                weights = heads.weights[ranked[k], events.classes[t]]
                block = _count(start, min(size, start + _BLOCK), own[k], hidden, features_VP, weights)
                for c in range(3):
                    found[k, c] += block[c]
    for k in range(len(ranked)):
        if not possible[k]:
            continue
        new_only, weights = heads.new_only[ranked[k]], heads.weights[ranked[k], events.classes[t]]
        for at in range(n):
            v = room.rows[at]
            if v < size:
                base = _base(v, hidden, features_VP, weights)
                _add(found[k], -1, base, own[k])
                if live[v] and born_ms[v] < request_ms and not (new_only and room.features[at, ACTED] > 0):
                    _add(found[k], 1, base + _extra(room.features[at], weights), own[k])
        for v in barred:
            if room.at[v] < 0 and not (live[v] and born_ms[v] < request_ms):
                _add(found[k], -1, _base(v, hidden, features_VP, weights), own[k])
        nan = found[k, 2] > 0 or own[k] != own[k]
        rank_HT[ranked[k], t] = np.nan if nan else 1 + found[k, 0] + (found[k, 1] - 1) / 2
