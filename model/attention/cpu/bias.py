"""The bias of scores on a CPU and its gradient, in compiled loops over pairs (formulas: relative_bias.py).

All pairs of a row and a key that it sees lie in one array, sequence by sequence and row by row: row i of a sequence has
i + 1 pairs. The bucket or the log gap of each pair is measured once for all layers.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from model.attention.cpu.dispatch import BIASES
from model.attention.cpu.row_ops import ROWS, Array, compiled, exp
from model.attention.cpu.simd import LANES, load, load_part, smaller, spread, store, store_part, total

NONE, BUCKETED, FUNCTIONAL = range(len(BIASES))
WAYS: Final = 4  # partial sums of a bucket's gradient, so that an addition need not wait for the one before
_ONE, _ZERO, _MINUS = np.float32(1), np.float32(0), np.float32(-1)
_FAR: Final = np.float32(20)  # as in model/attention/relative_bias.py


class GapPairs(NamedTuple):
    """What a bias reads: gaps of all pairs, tables of all layers, and a layer; empty where its kind uses none."""

    buckets: Array  # u8[pairs]
    log_gaps: Array  # f32[1, pairs]
    positions: Array  # f32[S, 2 * max_len - 1]
    times: Array  # f32[S, ...], by kind
    layer: int


@compiled
def measure_buckets(
    sequences: Array,
    starts: Array,
    pair_starts: Array,
    buckets: Array,
    asked_s: Array,
    ts_s: Array,
    gaps: Array,
    cells: Array,
    edges: Array,
) -> None:
    """Write each pair's bucket: that of the cell that the gap's leading bits name, or the next one from its edge on.

    `gaps` is scratch memory, as long as the longest sequence.
    """
    for b in sequences:
        first, at = starts[b], pair_starts[b]
        for i in range(starts[b + 1] - first):
            row_buckets(buckets[at:], asked_s[first + i], ts_s[first:], i + 1, gaps, cells, edges)
            at += i + 1


@compiled
def row_buckets(own: Array, asked: Any, times: Array, keys: int, gaps: Array, cells: Array, edges: Array) -> None:
    """Write the buckets of a row and its first keys; the arguments are those of `measure_buckets`."""
    bits = gaps.view(np.uint32)
    for j in range(keys):
        gaps[j] = np.float32(abs(asked - times[j]))
    for j in range(keys):
        bucket = cells[bits[j] >> 18]
        own[j] = bucket + np.uint8(gaps[j] >= edges[bucket + 1])


@compiled
def measure_log_gaps(
    sequences: Array, starts: Array, pair_starts: Array, log_gaps: Array, asked_s: Array, ts_s: Array
) -> None:
    """Write each pair's ln(max(gap, 1))."""
    for b in sequences:
        first, at = starts[b], pair_starts[b]
        for i in range(starts[b + 1] - first):
            for j in range(i + 1):
                log_gaps[0, at + j] = np.log(max(np.float32(abs(asked_s[first + i] - ts_s[first + j])), _ONE))
            at += i + 1


@compiled
def bias_rows(out: Array, i: int, rows: int, pairs: GapPairs, at: int, kind: int) -> None:
    """Fill a block with its bias; `at` is the first pair of row i. Values beyond a row's last key are undefined.

    Without a bias the block keeps the zeros that it was made of.
    """
    if kind == NONE:
        return
    times = pairs.times[pairs.layer]
    for r in range(rows):
        last = i + r
        nearest = pairs.positions.shape[1] // 2 - last
        if kind == BUCKETED:
            row, near, buckets = out[r], pairs.positions[pairs.layer, nearest:], pairs.buckets[at:]
            for j in range(last + 1):
                row[j] = near[j] + times[buckets[j]]
        else:
            for j in range(0, i + ROWS, LANES):
                fallen = exp(_fall(load_part(pairs.log_gaps, 0, at + j, at + last + 1) - times[2], times[1]))
                near = load_part(pairs.positions, pairs.layer, nearest + j, nearest + last + 1)
                store(out, r, j, near + fallen * times[0])
        at += last + 1


@compiled
def bias_back(
    g: Array, i: int, rows: int, pairs: GapPairs, at: int, kind: int, g_positions: Array, g_times: Array
) -> None:
    """Add a block's gradient of the bias, g, to the gradients of the layer's tables."""
    times, sums = pairs.times[pairs.layer], g_times[pairs.layer]
    amplitude, power, log_scale = spread(_ZERO), spread(_ZERO), spread(_ZERO)
    for r in range(rows):
        last = i + r
        nearest = g_positions.shape[1] // 2 - last
        end = nearest + last + 1
        for j in range(nearest, end, LANES):
            near = load_part(g_positions, pairs.layer, j, end) + load(g, r, j - nearest)
            store_part(g_positions, pairs.layer, j, near, end)
        if kind == BUCKETED:
            row, buckets = g[r], pairs.buckets[at:]
            for j in range(last + 1):
                sums[j % WAYS, buckets[j]] += row[j]
        else:
            for j in range(0, last + 1, LANES):
                distance = load_part(pairs.log_gaps, 0, at + j, at + last + 1) - times[2]
                fall = _fall(distance, times[1])
                own = load(g, r, j) * exp(fall)
                amplitude += own
                power += own * fall * distance
                log_scale += own * fall
        at += last + 1
    if kind == FUNCTIONAL:
        sums[0, 0] += total(amplitude)
        sums[0, 1] += total(power) * times[0]
        sums[0, 2] -= total(log_scale) * times[0] * times[1]


@compiled
def _fall(distance: Any, power: Any) -> Any:
    """Return -e^(power * distance), the logarithm of the decay."""
    return exp(smaller(spread(_FAR), distance * power)) * _MINUS
