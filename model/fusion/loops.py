"""The compiled loops of a log-linear model: event by event, ask, learn the weights, count.

T events, V rows of items, L tokens, m = LAGS last items, P = popularities, F = features of an item, H = heads, C =
classes of history length, N = rows of the pool, n = listed rows: those that have a feature besides popularity for the
event, and its target. A feature of an item is

    log(1 + 10 * its share of what is counted * number of items counted)

so that it is 0 for most items, and only the listed rows have to be looked at one by one. Events of one group (one
user's request) are asked before any of them is counted. Sums over the pool may be taken in any order.
"""

from functools import partial

import numpy as np

from model.arrays.jit import compiled
from model.counting import neighbours, pair_counts
from model.counting.neighbours import keep
from model.counting.pair_counts import add_pairs
from model.fusion import listing, ranking, tables
from model.fusion.listing import gather, last_acted
from model.fusion.ranking import rank
from model.fusion.tables import (
    ACTED,
    DISTINCT,
    ENCODER,
    EVENTS,
    FADE,
    LAGS,
    LISTED,
    NOISE,
    RATE,
    REFRESH_AT,
    USED_FOLLOWING,
    USED_TOGETHER,
    Array,
    Counts,
    Encoded,
    Events,
    Heads,
    Items,
    Pool,
    Room,
    pairs_of_item,
)

_CALLED = pair_counts.__file__, neighbours.__file__, listing.__file__, ranking.__file__, tables.__file__


@partial(compiled, calls=_CALLED)
def _base(hidden_V: Array, features_VP: Array, rows: Array, weights: Array, scores: Array) -> None:
    """Compute the scores of items by the encoder and popularity."""
    encoded = len(hidden_V) > 0
    for k in range(len(rows)):
        v, score = rows[k], 0.0
        if encoded:
            score = weights[ENCODER] * hidden_V[v]
        for p in range(features_VP.shape[1]):
            score += weights[1 + p] * features_VP[v, p]
        scores[k] = score


@partial(compiled, calls=_CALLED)
def _add_listed(features: Array, weights: Array, scores: Array) -> None:
    first = len(weights) - LISTED
    for at in range(len(scores)):
        for f in range(LISTED):
            scores[at] += weights[first + f] * features[at, f]


@partial(compiled, calls=_CALLED)
def _score(t: int, n: int, h: int, events: Events, items: Items, counts: Counts, heads: Heads, room: Room) -> None:
    """Compute the score of each item by a head; -inf for one that is no candidate."""
    weights, scores, size = heads.weights[h, events.classes[t]], room.scores, len(items.born_ms)
    hidden = events.encoded.hidden[events.encoded.places[t]]
    _base(hidden, counts.features, room.every[:size], weights, scores)
    extra, new_only = np.zeros(n), heads.new_only[h]
    _add_listed(room.features, weights, extra)
    rows, features = room.rows, room.features
    for at in range(n):
        if rows[at] < size:
            scores[rows[at]] += extra[at]
            if new_only and features[at, ACTED] > 0:
                scores[rows[at]] = -np.inf
    _bar(items.live, items.born_ms, events.request_ms[t], scores)


@partial(compiled, calls=_CALLED)
def _bar(live: Array, born_ms: Array, request_ms: int, scores: Array) -> None:
    """Set the scores of items that are no candidates to -inf."""
    for v in range(len(born_ms)):
        if not (live[v] and born_ms[v] < request_ms):
            scores[v] = -np.inf


@partial(compiled, calls=_CALLED)
def _learn(
    t: int, n: int, h: int, hidden: Array, events: Events, items: Items, counts: Counts, heads: Heads, pool: Pool,
    room: Room,
) -> None:  # fmt: skip
    """Add the gradient of the log likelihood of an event to its group's, by the part that is not by chance."""
    target, new_only = events.targets[t], heads.new_only[h]
    place = room.at[target]
    if new_only and room.features[place, ACTED] > 0:
        return
    weights = heads.weights[h, events.classes[t]]
    listed, scores, pool_scores, rows = room.features[:n], room.scores[:n], room.pool_scores, room.rows[:n]
    _base(hidden, counts.features, rows, weights, scores)
    _add_listed(listed, weights, scores)
    live, born_ms, request_ms = items.live, items.born_ms, events.request_ms[t]
    best = -np.inf
    for at in range(n):
        v = rows[at]
        if not (live[v] and born_ms[v] < request_ms) or (new_only and listed[at, ACTED] > 0):
            scores[at] = -np.inf
        best = max(best, scores[at])
    size = len(pool.rows)
    _base(hidden, counts.features, pool.rows, weights, pool_scores)
    best = max(best, _among(pool.rows, room.at, live, born_ms, request_ms, pool_scores))
    mean = np.zeros(len(weights))
    total = _expect(hidden, counts.features, pool.rows, pool_scores[:size], pool.counts, best, mean)
    total += _expect(hidden, counts.features, rows, scores, np.ones(n), best, mean)
    first = len(weights) - LISTED
    for at in range(n):
        for f in range(LISTED):
            mean[first + f] += scores[at] * listed[at, f]
    share = scores[place] / total
    part = share / (share + NOISE / max(1, counts.facts[DISTINCT]))
    gradient = heads.gradients[h, events.classes[t]]
    heads.hits[h, events.classes[t]] += 1
    for p in range(first - 1):
        gradient[1 + p] += part * (counts.features[target, p] - mean[1 + p] / total)
    for f in range(LISTED):
        gradient[first + f] += part * (listed[place, f] - mean[first + f] / total)
    if len(hidden) and heads.encoded[h]:
        gradient[ENCODER] += part * (hidden[target] - mean[ENCODER] / total)


@partial(compiled, any_order=True, calls=_CALLED)
def _logits(query_D: Array, encoded: Encoded, rows: Array, hidden_V: Array) -> None:
    """Compute the encoder's logits of some items."""
    for v in rows:
        cosine = np.float32(0.0)
        for d in range(len(query_D)):
            cosine += query_D[d] * encoded.units[v, d]
        hidden_V[v] = cosine / encoded.temperature


@partial(compiled, calls=_CALLED)
def _known(t: int, n: int, encoded: Encoded, pool: Pool, room: Room) -> Array:
    """Return the encoder's logits of at least the items that an event learns by, [V]."""
    hidden: Array = encoded.hidden[encoded.places[t]]
    if not len(encoded.queries):
        return hidden
    for rows in (pool.rows, room.rows[:n]):
        _logits(encoded.queries[t], encoded, rows, room.hidden)
    return room.hidden


@partial(compiled, calls=_CALLED)
def _among(rows: Array, at_V: Array, live: Array, born_ms: Array, request_ms: int, scores: Array) -> float:
    """Set the scores of rows that are listed or no candidates to -inf, and return the largest score."""
    best = -np.inf
    for k in range(len(rows)):
        v = rows[k]
        if at_V[v] >= 0 or not live[v] or born_ms[v] >= request_ms:
            scores[k] = -np.inf
        best = max(best, scores[k])
    return best


@partial(compiled, any_order=True, calls=_CALLED)
def _expect(
    hidden_V: Array, features_VP: Array, rows: Array, scores: Array, counts: Array, best: float, mean: Array
) -> float:
    """Turn scores into masses exp(score - best) / count; add the mass of the features to `mean`; return the mass."""
    total, encoded = 0.0, len(hidden_V) > 0
    popularities = features_VP.shape[1]
    for k in range(len(rows)):
        if scores[k] == -np.inf:
            scores[k] = 0.0
            continue
        v, mass = rows[k], np.exp(scores[k] - best) / counts[k]
        scores[k] = mass
        total += mass
        if encoded:
            mean[ENCODER] += mass * hidden_V[v]
        for p in range(popularities):
            mean[1 + p] += mass * features_VP[v, p]
    return total


@partial(compiled, calls=_CALLED)
def _descend(heads: Heads) -> None:
    """Take a step of Adagrad by the mean gradient of a group."""
    for h in range(heads.hits.shape[0]):
        for c in range(heads.hits.shape[1]):
            if heads.hits[h, c]:
                for f in range(heads.weights.shape[2]):
                    slope = heads.gradients[h, c, f] / heads.hits[h, c]
                    heads.squares[h, c, f] += slope * slope
                    if heads.squares[h, c, f] > 0:  # the square of a tiny slope is 0
                        heads.weights[h, c, f] += RATE * slope / np.sqrt(heads.squares[h, c, f])
                    heads.gradients[h, c, f] = 0.0
                heads.hits[h, c] = 0


@partial(compiled, calls=_CALLED)
def _count(t: int, events: Events, counts: Counts) -> None:
    """Count an event."""
    target, sums, totals, facts = events.targets[t], counts.sums, counts.totals, counts.facts
    together, following = counts.together, counts.following
    known = False
    for p in range(len(totals)):
        known = known or sums[target, p] > 0
        sums[target, p] += events.weights[t, p]
        totals[p] += events.weights[t, p]
    facts[DISTINCT] += not known
    limit = pairs_of_item(facts)
    facts[EVENTS] += 1
    for p in range(len(totals)):
        share = sums[target, p] / totals[p] if totals[p] > 0 else 0.0  # 0 where all of it is too long ago for float64
        counts.features[target, p] = np.log1p(10.0 * facts[DISTINCT] * share)
    rows, columns = np.empty(2 * LAGS, np.int64), np.empty(2 * LAGS, np.int64)
    n, weight = 0, events.pair_weights[t]
    weights, faded = np.empty(2 * LAGS), weight
    for i in events.last[t]:
        if i >= 0:
            rows[n], columns[n], rows[n + 1], columns[n + 1] = i, target, target, i
            weights[n] = weights[n + 1] = faded
            n += 2
            counts.together_totals[i] += faded
            counts.together_totals[target] += faded
            counts.together_roots[i] = np.sqrt(counts.together_totals[i])
        faded *= FADE
    counts.together_roots[target] = np.sqrt(counts.together_totals[target])
    _, facts[USED_TOGETHER] = add_pairs(
        rows[:n], columns[:n], weights[:n], 0, together.starts, together.lengths, together.columns, together.sums,
        counts.together_rooms, facts[USED_TOGETHER], limit,
    )  # fmt: skip
    own = slice(events.starts[t], events.queries[t] + 1)
    keep(events.users[t], target, last_acted(events.rows[own], events.acted[own]), counts.histories)
    weights[0] = weight
    if n:
        counts.following_totals[rows[0]] += weight
        _, facts[USED_FOLLOWING] = add_pairs(
            rows[:1], columns[:1], weights, 0, following.starts, following.lengths, following.columns, following.sums,
            counts.following_rooms, facts[USED_FOLLOWING], limit,
        )  # fmt: skip


@partial(compiled, calls=_CALLED)
def run(
    t: int, pending: int, learn: bool, ranked: Array, tested: Array, rank_HT: Array, targets: Array,
    events: Events, asked: Items, barred: Array, items: Items, counts: Counts, heads: Heads, pool: Pool, room: Room,
) -> tuple[int, int]:  # fmt: skip
    """Rank and learn events from number `t` on; those from `pending` on are ranked and not yet counted.

    Args:
        t: The first event.
        pending: The first event that is not counted, of the group before.
        learn: Whether weights and counts move.
        ranked: Heads that rank.
        tested: Events whose targets are ranked; they have the logits of all items.
        rank_HT: Ranks to be filled in.
        targets: Row of each target among the items asked about, -1: unknown.
        events: The events.
        asked: Items as they were when the questions were asked.
        barred: Those of them that are no candidates of some event.
        items: Items after admission.
        counts: Counts.
        heads: Heads.
        pool: Rows of the softmax.
        room: Memory.

    Returns:
        Where to go on: pair counts need room, or popularity is to be refreshed. All is done when both are T.
    """
    while True:
        if pending < t and (t == len(events.targets) or events.groups[t] != events.groups[pending]):
            if learn:
                most = 2 * LAGS * pairs_of_item(counts.facts) * (t - pending)
                if counts.facts[USED_TOGETHER] + most > len(counts.together.columns) or counts.facts[
                    USED_FOLLOWING
                ] + most > len(counts.following.columns):
                    return t, pending
                _descend(heads)
                for done in range(pending, t):
                    if events.targets[done] >= 0:
                        _count(done, events, counts)
            pending = t
            if learn and counts.facts[EVENTS] >= counts.facts[REFRESH_AT]:
                return t, pending
        if t == len(events.targets):
            return t, pending
        n = gather(t, events, counts, room, learn)
        target = events.targets[t]
        if learn and target >= 0 and items.live[target] and items.born_ms[target] < events.request_ms[t]:
            hidden = _known(t, n, events.encoded, pool, room)
            for h in range(len(heads.new_only)):
                _learn(t, n, h, hidden, events, items, counts, heads, pool, room)
        if len(ranked) and tested[t]:
            rank(t, n, ranked, targets[t], events, asked, barred, counts, heads, room, rank_HT)
        for at in range(n):
            room.at[room.rows[at]] = -1
        t += 1


@partial(compiled, calls=_CALLED)
def listed(events: Events, counts: Counts, room: Room) -> int:
    """List the rows that have features for the only event, with these, in `room`; return their number."""
    n = gather(0, events, counts, room, False)
    for at in range(n):
        room.at[room.rows[at]] = -1
    return n


@partial(compiled, calls=_CALLED)
def scores(h: int, events: Events, asked: Items, counts: Counts, heads: Heads, room: Room, score_TV: Array) -> None:
    """Compute the scores of all items by a head, -inf for one that is no candidate."""
    for t in range(len(events.targets)):
        n = gather(t, events, counts, room, False)
        _score(t, n, h, events, asked, counts, heads, room)
        score_TV[t] = room.scores[: len(asked.born_ms)]
        for at in range(n):
            room.at[room.rows[at]] = -1
