"""The compiled loops of click probabilities: request by request, ask, learn the weights, count.

T impressions, A rank actions, H heads, F features, V items, L tokens, n distinct items of a history. With b the base
rate of an action, all features are 0 where nothing is known but b:

    logit = log(b / (1 - b)) + sum over f of w_f x_f

    bias              1
    item_rate         log of the item's rate of the action over b, PRIOR views at b added
    user_rate         the same of the history
    own_acts          log(1 + acts on the item in the history)
    own_views         log(1 + views of the item in the history)
    views             log of the item's views over those of a mean item, one view added to both
    shown_together    log of how often the item was shown to users of the history's views, over how often by chance
    acted_together    the same of acts
    history           log(1 + items in the history) / 3
    place             log(1 + place in the slate)
    tower             the tower's logit - log(b / (1 - b))

"Together" counts pairs of a shown item with the LAGS items shown before its request, and of an item that was acted on
with the LAGS items acted on before. By chance the items i and j make N_i N_j / N pairs. Impressions of one request are
asked before any of them is counted.
"""

from functools import partial

import numpy as np

from model.arrays.jit import compiled
from model.counting import pair_counts
from model.counting.pair_counts import PairColumns, add_pairs
from model.fusion import click_tables
from model.fusion.click_tables import (
    ACTED,
    BIAS,
    DISTINCT,
    HISTORY,
    ITEM_RATE,
    LAGS,
    MOST_RATE,
    OWN_ACTS,
    OWN_VIEWS,
    PLACE,
    PRIOR,
    RATE,
    SHOWN,
    SHRINK,
    TINY,
    TOWER,
    USED_ACTED,
    USED_SHOWN,
    USER_RATE,
    VIEWED,
    VIEWS,
    Array,
    ClickCounts,
    ClickHeads,
    Fades,
    Impressions,
)

_CALLED = pair_counts.__file__, click_tables.__file__


@partial(compiled, calls=_CALLED)
def _history(t: int, asked: Impressions, actions: int) -> tuple[Array, Array, Array, Array]:
    """Return the distinct items of a history, ascending; views and acts of each; views and acts by action of all."""
    start, end = asked.starts[t], asked.queries[t] + 1
    there = (asked.whats[start:end] >= VIEWED) & (asked.rows[start:end] >= 0)
    rows, whats = asked.rows[start:end][there], asked.whats[start:end][there]
    items = np.unique(rows)
    counts, totals = np.zeros((len(items), 2)), np.zeros(1 + actions)
    at_n = np.searchsorted(items, rows)
    for k in range(len(rows)):
        counts[at_n[k], int(whats[k] != VIEWED)] += 1.0
        totals[1 + whats[k]] += 1.0
    return items, counts[:, 0], counts[:, 1], totals


@partial(compiled, calls=_CALLED)
def _by_chance(items: Array, counts: Array, totals: Array) -> float:
    """Return the pairs of a history's items, over all pairs."""
    found = 0.0
    for k in range(len(items)):
        found += counts[k] * totals[items[k]]
    return found / totals[-1] if totals[-1] > 0 else 0.0


@partial(compiled, calls=_CALLED)
def _lift(
    row: int, items: Array, counts: Array, pairs: PairColumns, totals: Array, chance: float, factor: float
) -> float:
    """Return the log of how often an item was together with those of a history, over how often by chance."""
    if row < 0:
        return 0.0
    found, n, k, end = 0.0, 0, pairs.starts[row], pairs.starts[row] + pairs.lengths[row]
    while n < len(items) and k < end:
        if items[n] < pairs.columns[k]:
            n += 1
        elif items[n] > pairs.columns[k]:
            k += 1
        else:
            found += counts[n] * pairs.sums[k]
            n += 1
            k += 1
    return float(np.log((found * factor + SHRINK) / (chance * totals[row] * factor + SHRINK)))


@partial(compiled, calls=_CALLED)
def _ask(
    first: int, end: int, asked: Impressions, factor: float, counts: ClickCounts, features_TAF: Array, base_TA: Array
) -> None:  # fmt: skip
    """Compute the features of the impressions of one request, and the logit of each action's base rate."""
    actions = counts.acts.shape[1]
    items, viewed, acted, own = _history(first, asked, actions)
    by_views = _by_chance(items, viewed, counts.shown_totals)
    by_acts = _by_chance(items, acted, counts.acted_totals)
    mean = counts.totals[0] * factor / max(1, counts.facts[DISTINCT])
    for t in range(first, end):
        row, place = asked.targets[t], np.searchsorted(items, asked.targets[t])
        known = place < len(items) and items[place] == row
        x = features_TAF[t]
        x[:, BIAS] = 1.0
        x[:, OWN_ACTS] = np.log1p(acted[place]) if known else 0.0
        x[:, OWN_VIEWS] = np.log1p(viewed[place]) if known else 0.0
        views = counts.views[row] * factor if row >= 0 else 0.0
        x[:, VIEWS] = np.log((views + 1.0) / (mean + 1.0))
        x[:, SHOWN] = _lift(row, items, viewed, counts.shown, counts.shown_totals, by_views, factor)
        x[:, ACTED] = _lift(row, items, acted, counts.acted, counts.acted_totals, by_acts, factor)
        x[:, HISTORY] = np.log1p(own.sum()) / 3.0
        x[:, PLACE] = np.log1p(asked.places[t])
        for a in range(actions):
            base = min((counts.totals[1 + a] * factor + 1.0) / (counts.totals[0] * factor + 2.0), MOST_RATE)
            acts = counts.acts[row, a] * factor if row >= 0 else 0.0
            item = (acts / base + PRIOR) / (views + PRIOR)
            user = (own[1 + a] / base + PRIOR) / (own[0] + PRIOR)
            x[a, ITEM_RATE], x[a, USER_RATE] = np.log(item), np.log(user)
            base_TA[t, a] = np.log(base / (1.0 - base))
            x[a, TOWER] = asked.towers[t, a] - base_TA[t, a] if asked.towers.shape[1] else 0.0


@partial(compiled, calls=_CALLED)
def _answer(t: int, weights_HAF: Array, x_AF: Array, base_A: Array, logits_HTA: Array) -> None:
    for h in range(weights_HAF.shape[0]):
        for a in range(weights_HAF.shape[1]):
            logit = base_A[a]
            for f in range(weights_HAF.shape[2]):
                logit += weights_HAF[h, a, f] * x_AF[a, f]
            logits_HTA[h, t, a] = logit


@partial(compiled, calls=_CALLED)
def _descend(t: int, asked: Impressions, heads: ClickHeads, x_AF: Array, logits_HTA: Array) -> None:
    """Take a step of Adagrad on the log-loss of an impression."""
    for h in range(logits_HTA.shape[0]):
        for a in range(logits_HTA.shape[2]):
            off = 1.0 / (1.0 + np.exp(-logits_HTA[h, t, a])) - asked.labels[t, a]
            for f in range(x_AF.shape[1]):
                if f == TOWER and not heads.towers[h]:
                    continue
                slope = off * x_AF[a, f]
                heads.squares[h, a, f] += slope * slope
                heads.weights[h, a, f] -= RATE * slope / np.sqrt(heads.squares[h, a, f] + TINY)


@partial(compiled, calls=_CALLED)
def _count(t: int, asked: Impressions, weight: float, counts: ClickCounts, limit: int) -> None:
    """Count an impression, unless its item has no row."""
    if asked.targets[t] < 0:
        return
    row, acted, facts = asked.targets[t], False, counts.facts
    facts[DISTINCT] += counts.views[row] == 0.0
    counts.views[row] += weight
    counts.totals[0] += weight
    for a in range(counts.acts.shape[1]):
        if asked.labels[t, a]:
            acted = True
            counts.acts[row, a] += weight
            counts.totals[1 + a] += weight
    facts[USED_SHOWN] = _pair(
        t, asked, weight, False, counts.shown, counts.shown_rooms, counts.shown_totals, facts[USED_SHOWN], limit
    )
    if acted:
        facts[USED_ACTED] = _pair(
            t, asked, weight, True, counts.acted, counts.acted_rooms, counts.acted_totals, facts[USED_ACTED], limit
        )


@partial(compiled, calls=_CALLED)
def _pair(
    t: int, asked: Impressions, weight: float, acted: bool,
    pairs: PairColumns, rooms: Array, totals: Array, used: int, limit: int,
) -> int:  # fmt: skip
    """Count the pairs of an item with the last ones that the user viewed, or acted on; return the places used."""
    rows, columns, n = np.empty(2 * LAGS, np.int64), np.empty(2 * LAGS, np.int64), 0
    row, at = asked.targets[t], asked.queries[t]
    while at >= asked.starts[t] and n < 2 * LAGS:
        what, other = asked.whats[at], asked.rows[at]
        if other >= 0 and (what > VIEWED if acted else what == VIEWED):
            rows[n], columns[n], rows[n + 1], columns[n + 1] = row, other, other, row
            totals[row] += weight
            totals[other] += weight
            totals[-1] += 2.0 * weight
            n += 2
        at -= 1
    _, used = add_pairs(
        rows[:n], columns[:n], np.full(n, weight), 0, pairs.starts, pairs.lengths, pairs.columns, pairs.sums, rooms,
        used, limit,
    )  # fmt: skip
    return used


@partial(compiled, calls=_CALLED)
def run(
    t: int, learn: bool, asked: Impressions, fades: Fades, counts: ClickCounts, heads: ClickHeads,
    features_TAF: Array, base_TA: Array, logits_HTA: Array, limit: int,
) -> int:  # fmt: skip
    """Answer and learn the impressions from number `t` on, request by request.

    Args:
        t: The first impression, which begins a request.
        learn: Whether weights and counts move.
        asked: The impressions.
        fades: How counts fade.
        counts: Counts.
        heads: Heads.
        features_TAF: Memory.
        base_TA: Memory.
        logits_HTA: Logits to be filled in.
        limit: Most columns of a row of pair counts.

    Returns:
        Where to go on: pair counts need room for this request. All is done when it is T.
    """
    while t < len(asked.targets):
        end = t + 1
        while end < len(asked.targets) and asked.groups[end] == asked.groups[t]:
            end += 1
        most = 2 * LAGS * limit * (end - t)
        if learn and (
            counts.facts[USED_SHOWN] + most > len(counts.shown.columns)
            or counts.facts[USED_ACTED] + most > len(counts.acted.columns)
        ):
            return t
        _ask(t, end, asked, fades.factors[t], counts, features_TAF, base_TA)
        for each in range(t, end):
            _answer(each, heads.weights, features_TAF[each], base_TA[each], logits_HTA)
        if learn:
            for each in range(t, end):
                _descend(each, asked, heads, features_TAF[each], logits_HTA)
            for each in range(t, end):
                _count(each, asked, fades.weights[each], counts, limit)
        t = end
    return t
