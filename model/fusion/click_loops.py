"""The compiled loops of click probabilities: request by request, ask, learn the weights, count.

T impressions, A rank actions, H heads, F features, V items, L tokens, n distinct items of a history, W values of an
item. With b the base rate of an action, all features are 0 where nothing is known but b:

    logit = log(b / (1 - b)) + sum over f of w_f x_f

    bias              1
    item_rate         log of the item's odds of the action over those of b, PRIOR views at b added
    user_rate         the same of the history
    own_acts          log(1 + acts on the item in the history)
    own_views         log(1 + views of the item in the history)
    views             log of the item's views over those of a mean item, one view added to both
    shown_together    log of how often the item was shown to users of the history's views, over how often by chance
    acted_together    the same of acts
    own_values        log of how many tokens of the history have the item's value, over how many by chance, one added
    value_rate        as item_rate, of all items with the value
    own_value_rate    as user_rate, of the history's items with the value, over the user's rate in place of b
    history           log(1 + items in the history) / 3
    place             log(1 + place in the slate)
    tower             the tower's logit - log(b / (1 - b))

"Together" counts pairs of a shown item with the LAGS items shown before its request, and of an item that was acted on
with the LAGS items acted on before. By chance the items i and j make N_i N_j / N pairs, and a token of an item that the
catalogue describes has a value as often as a view of such an item has it. What is said of one value is the mean over
the catalogue's features of the means over their values. Impressions of one request are asked before any of them is
counted.
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
    DRIFT,
    HISTORY,
    ITEM_RATE,
    LAGS,
    LEAST,
    MOST_RATE,
    OWN_ACTS,
    OWN_VALUE_RATE,
    OWN_VALUES,
    OWN_VIEWS,
    PLACE,
    PRIOR,
    SHOWN,
    SHRINK,
    TOWER,
    USED_ACTED,
    USED_SHOWN,
    USER_RATE,
    VALUE_RATE,
    VARIANCE,
    VIEWED,
    VIEWS,
    Array,
    ClickCounts,
    ClickHeads,
    Fades,
    Impressions,
    ItemValues,
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
def _odds(acts: float, views: float, rate: float) -> float:
    """Return the log of the odds of acts among views over those at a rate, PRIOR views at that rate added."""
    return float(np.log((acts / rate + PRIOR) / (max(views - acts, 0.0) / (1.0 - rate) + PRIOR)))


@partial(compiled, calls=_CALLED)
def _add_values(t: int, asked: Impressions, values: ItemValues, own_RA: Array) -> float:
    """Count the views and acts of a history by value, in 1 + A columns; return how many are of items with values."""
    found = 0.0
    for at in range(asked.starts[t], asked.queries[t] + 1):
        row, column = asked.rows[at], 1 + asked.whats[at]
        if row < 0 or column < 0:
            continue
        for k in range(values.rows.shape[1]):
            if values.rows[row, k] < 0:
                break
            own_RA[values.rows[row, k], column] += 1.0
            found += k == 0
    return found


@partial(compiled, calls=_CALLED)
def _clear_values(t: int, asked: Impressions, values: ItemValues, own_RA: Array) -> None:
    """Undo what _add_values did to the table."""
    for at in range(asked.starts[t], asked.queries[t] + 1):
        for k in range(values.rows.shape[1]):
            if asked.rows[at] < 0 or values.rows[asked.rows[at], k] < 0:
                break
            own_RA[values.rows[asked.rows[at], k]] = 0.0


@partial(compiled, calls=_CALLED)
def _by_values(
    row: int, values: ItemValues, own_RA: Array, tokens: float, rates_A2: Array, factor: float, counts: ClickCounts,
    x_AF: Array,
) -> None:  # fmt: skip
    """Compute the features that come of the item's values.

    Args:
        row: The item.
        values: Of all items.
        own_RA: The history by value.
        tokens: How many of its tokens are of items with values.
        rates_A2: The base rate of each action, and the user's.
        factor: By which counts become counts as of the request.
        counts: Counts.
        x_AF: Features to be filled in.
    """
    x_AF[:, OWN_VALUES] = x_AF[:, VALUE_RATE] = x_AF[:, OWN_VALUE_RATE] = 0.0
    total = 0.0
    for k in range(values.rows.shape[1]):
        value = values.rows[row, k] if row >= 0 else -1
        if value < 0:
            break
        weight, own_A, views = float(values.weights[row, k]), own_RA[value], counts.value_views[value]
        chance = tokens * views / counts.described[0] if counts.described[0] > 0 else 0.0
        total += weight
        x_AF[:, OWN_VALUES] += weight * np.log((own_A.sum() + 1.0) / (chance + 1.0))
        for a in range(len(rates_A2)):
            acts = counts.value_acts[value, a] * factor
            x_AF[a, VALUE_RATE] += weight * _odds(acts, views * factor, rates_A2[a, 0])
            x_AF[a, OWN_VALUE_RATE] += weight * _odds(own_A[1 + a], own_A[0], rates_A2[a, 1])
    if total > 0:
        for f in (OWN_VALUES, VALUE_RATE, OWN_VALUE_RATE):
            x_AF[:, f] /= total


@partial(compiled, calls=_CALLED)
def _rates(own: Array, factor: float, counts: ClickCounts) -> Array:
    """Return the base rate of each action, and a user's, [A, 2]."""
    rates_A2 = np.empty((counts.acts.shape[1], 2))
    for a in range(len(rates_A2)):
        base = min((counts.totals[1 + a] * factor + 1.0) / (counts.totals[0] * factor + 2.0), MOST_RATE)
        odds = np.exp(_odds(own[1 + a], own[0], base)) * base / (1.0 - base)
        rates_A2[a, 0], rates_A2[a, 1] = base, min(odds / (1.0 + odds), MOST_RATE)
    return rates_A2


@partial(compiled, calls=_CALLED)
def _ask(
    first: int, end: int, asked: Impressions, values: ItemValues, factor: float, counts: ClickCounts, own_RA: Array,
    features_TAF: Array, base_TA: Array,
) -> None:  # fmt: skip
    """Compute the features of the impressions of one request, and the logit of each action's base rate."""
    actions = counts.acts.shape[1]
    items, viewed, acted, own = _history(first, asked, actions)
    tokens, rates_A2 = _add_values(first, asked, values, own_RA), _rates(own, factor, counts)
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
        _by_values(row, values, own_RA, tokens, rates_A2, factor, counts, x)
        for a in range(actions):
            base, acts = rates_A2[a, 0], counts.acts[row, a] * factor if row >= 0 else 0.0
            x[a, ITEM_RATE], x[a, USER_RATE] = _odds(acts, views, base), _odds(own[1 + a], own[0], base)
            base_TA[t, a] = np.log(base / (1.0 - base))
            x[a, TOWER] = asked.towers[t, a] - base_TA[t, a] if asked.towers.shape[1] else 0.0
    _clear_values(first, asked, values, own_RA)


@partial(compiled, calls=_CALLED)
def _answer(t: int, weights_HAF: Array, x_AF: Array, base_A: Array, logits_HTA: Array) -> None:
    for h in range(weights_HAF.shape[0]):
        for a in range(weights_HAF.shape[1]):
            logit = base_A[a]
            for f in range(weights_HAF.shape[2]):
                logit += weights_HAF[h, a, f] * x_AF[a, f]
            logits_HTA[h, t, a] = logit


@partial(compiled, calls=_CALLED)
def _learn(t: int, asked: Impressions, heads: ClickHeads, x_AF: Array, logits_HTA: Array) -> None:
    """Learn an impression, for each head and action."""
    for h in range(logits_HTA.shape[0]):
        for a in range(logits_HTA.shape[2]):
            rate = 1.0 / (1.0 + np.exp(-logits_HTA[h, t, a]))
            _filter(rate, asked.labels[t, a] - rate, x_AF[a], heads.weights[h, a], heads.covariances[h, a])


@partial(compiled, calls=_CALLED)
def _filter(rate: float, off: float, x_F: Array, weight_F: Array, covariance_FF: Array) -> None:
    """Take a step of a Kalman filter, which is Newton's method on the log-loss so far; weights drift.

    Args:
        rate: The probability that was answered.
        off: What the label is more.
        x_F: Features.
        weight_F: Weights.
        covariance_FF: Of the weights.
    """
    moved_F, total, variance = np.empty(len(x_F)), 0.0, rate * (1.0 - rate)
    for f in range(len(x_F)):
        moved_F[f] = 0.0
        for g in range(len(x_F)):
            moved_F[f] += covariance_FF[f, g] * x_F[g]
        total += moved_F[f] * x_F[f]
    step, less = off / (1.0 + max(variance, LEAST) * total), variance / (1.0 + variance * total)
    for f in range(len(x_F)):
        weight_F[f] += step * moved_F[f]
        for g in range(len(x_F)):
            covariance_FF[f, g] -= less * moved_F[f] * moved_F[g]
        if covariance_FF[f, f] != 0.0 and covariance_FF[f, f] < VARIANCE:
            covariance_FF[f, f] += DRIFT * variance


@partial(compiled, calls=_CALLED)
def _count_values(t: int, asked: Impressions, values: ItemValues, weight: float, counts: ClickCounts) -> None:
    """Count an impression for each value of its item."""
    for k in range(values.rows.shape[1]):
        value = values.rows[asked.targets[t], k]
        if value < 0:
            break
        counts.value_views[value] += weight
        for a in range(counts.acts.shape[1]):
            counts.value_acts[value, a] += weight * asked.labels[t, a]
        if k == 0:
            counts.described[0] += weight


@partial(compiled, calls=_CALLED)
def _count(
    t: int, asked: Impressions, values: ItemValues, weight: float, counts: ClickCounts, limit: int
) -> None:  # fmt: skip
    """Count an impression, unless its item has no row."""
    if asked.targets[t] < 0:
        return
    _count_values(t, asked, values, weight, counts)
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
    t: int, learn: bool, asked: Impressions, values: ItemValues, fades: Fades, counts: ClickCounts, heads: ClickHeads,
    own_RA: Array, features_TAF: Array, base_TA: Array, logits_HTA: Array, limit: int,
) -> int:  # fmt: skip
    """Answer and learn the impressions from number `t` on, request by request.

    Args:
        t: The first impression, which begins a request.
        learn: Whether weights and counts move.
        asked: The impressions.
        values: What the catalogue says of the items.
        fades: How counts fade.
        counts: Counts.
        heads: Heads.
        own_RA: Zeros, [R, 1 + A], and left so.
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
        _ask(t, end, asked, values, fades.factors[t], counts, own_RA, features_TAF, base_TA)
        for each in range(t, end):
            _answer(each, heads.weights, features_TAF[each], base_TA[each], logits_HTA)
        if learn:
            for each in range(t, end):
                _learn(each, asked, heads, features_TAF[each], logits_HTA)
            for each in range(t, end):
                _count(each, asked, values, fades.weights[each], counts, limit)
        t = end
    return t
