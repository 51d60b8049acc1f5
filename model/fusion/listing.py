"""Which rows of items have features for an event besides popularity, and these features: compiled loops.

n = listed rows, V rows of items; more letters, and what a feature is, in loops.py.
"""

from functools import partial

import numpy as np

from model.arrays.jit import compiled
from model.counting import neighbours
from model.counting.neighbours import ITEMS, Histories, Memory, nearest
from model.fusion import tables
from model.fusion.tables import (
    ACTED,
    DISTINCT,
    FADE,
    FOLLOWING,
    LISTED,
    NEIGHBOURS,
    OWN,
    OWN_FOLLOWING,
    SHRINK,
    STRENGTH,
    TOGETHER,
    Array,
    Counts,
    Events,
    Room,
)

_CALLED = tables.__file__, neighbours.__file__


@partial(compiled, calls=_CALLED)
def _list(row: int, n: int, at_V: Array, rows: Array, features: Array) -> int:
    """List an item if it is not yet; return how many are listed then."""
    if at_V[row] < 0:
        at_V[row] = n
        rows[n] = row
        features[n] = 0.0
        return n + 1
    return n


@partial(compiled, calls=_CALLED)
def gather(t: int, events: Events, counts: Counts, room: Room, listed: bool) -> int:
    """List the rows that have features for an event, with these features; return their number."""
    totals, factor = np.zeros(LISTED), events.pair_factors[t]
    at_V, rows, features, last = room.at, room.rows, room.features, events.last[t]
    together, following = counts.together, counts.following
    n, totals[TOGETHER] = _gather_together(
        last, together.starts, together.lengths, together.columns, together.sums, counts.together_roots,
        SHRINK / factor, at_V, rows, features,
    )  # fmt: skip
    for i in last:
        if i >= 0 and following.lengths[i]:
            totals[FOLLOWING] = counts.following_totals[i] + STRENGTH / factor
            for k in range(following.starts[i], following.starts[i] + following.lengths[i]):
                n = _list(following.columns[k], n, at_V, rows, features)
                features[at_V[following.columns[k]], FOLLOWING] = following.sums[k]
            break
    own = slice(events.starts[t], events.queries[t] + 1)
    acted = last_acted(events.rows[own], events.acted[own])
    n = _gather_neighbours(acted, counts.histories, room.memory, n, at_V, rows, features)
    n = _gather_own(events.rows[own], events.acted[own], last[0], totals, n, at_V, rows, features)
    for at in range(n):
        if features[at, ACTED] > 0:
            features[at, NEIGHBOURS] = 0.0  # the user is among the neighbours
        totals[NEIGHBOURS] += features[at, NEIGHBOURS]
    if listed and events.targets[t] >= 0:
        n = _list(events.targets[t], n, at_V, rows, features)
    for f in range(LISTED):
        scale = 10.0 * max(1, counts.facts[DISTINCT])  # above 0 before anything is counted
        for at in range(n):
            if features[at, f] > 0:
                features[at, f] = np.log1p(scale * (features[at, f] / totals[f]))
    return n


@partial(compiled, calls=_CALLED)
def _gather_together(
    last: Array, starts: Array, lengths: Array, columns: Array, sums: Array, roots: Array, shrink: float,
    at_V: Array, rows: Array, features: Array,
) -> tuple[int, float]:  # fmt: skip
    """List what goes together with the last items; return the number of listed rows, and the sum of their cosines."""
    n, total, fade = 0, 0.0, 1.0
    for i in last:
        if i < 0:
            break
        for k in range(starts[i], starts[i] + lengths[i]):
            j = columns[k]
            n = _list(j, n, at_V, rows, features)
            cosine = fade * sums[k] / (roots[i] * roots[j] + shrink)
            features[at_V[j], TOGETHER] += cosine
            total += cosine
        fade *= FADE
    return n, total


@partial(compiled, calls=_CALLED)
def last_acted(rows: Array, acted: Array) -> Array:
    """Return the rows of the last items acted on, latest first, [ITEMS], -1 where there are fewer."""
    found, n, k = np.full(ITEMS, -1), 0, len(rows) - 1
    while k >= 0 and n < ITEMS:
        if acted[k] and rows[k] >= 0:
            found[n] = rows[k]
            n += 1
        k -= 1
    return found


@partial(compiled, calls=_CALLED)
def _gather_neighbours(
    last: Array, kept: Histories, memory: Memory, n: int, at_V: Array, rows: Array, features: Array
) -> int:
    """List what the nearest users have, weighed by their similarity; return the number of listed rows."""
    slots, similar = nearest(-1, last, kept, memory)
    for k in range(len(slots)):
        for place in range(slots[k] * ITEMS, (slots[k] + 1) * ITEMS):
            if kept.stamps[place]:
                n = _list(kept.items[place], n, at_V, rows, features)
                features[at_V[kept.items[place]], NEIGHBOURS] += similar[k]
    return n


@partial(compiled, calls=_CALLED)
def _gather_own(
    history: Array, acted: Array, last: int, totals: Array, n: int, at_V: Array, rows: Array, features: Array
) -> int:
    """List the items of the user's history, and what followed the last one there; return the number of listed rows."""
    weight, later = 1.0, -1
    for k in range(len(history) - 1, -1, -1):
        row = history[k]
        if row < 0:
            continue
        n = _list(row, n, at_V, rows, features)
        features[at_V[row], OWN] += weight
        totals[OWN] += weight
        weight *= FADE
        if acted[k]:
            features[at_V[row], ACTED] = 1.0
        if row == last and later >= 0:
            features[at_V[later], OWN_FOLLOWING] += 1.0
            totals[OWN_FOLLOWING] += 1.0
        later = row
    return n
