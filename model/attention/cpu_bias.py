"""The bias of scores on a CPU (model/bias.py says what it means), and its gradient: compiled loops over pairs.

A batch's pairs of row and key that see one another lie in one array, sequence by sequence and row by row: row i of a
sequence has i + 1 of them. What the bias wants to know of a pair's times is measured once for all layers.
"""

from typing import Final

import numpy as np

from model.attention.cpu_kernels import ROWS, Array, clear, compiled, exp

NONE, BUCKETED, FUNCTIONAL = range(3)
_ONE, _ZERO = np.float32(1), np.float32(0)
_FAR: Final = np.float32(20)  # as in model/bias.py


@compiled
def measure_buckets(
    sequences: Array,
    starts: Array,
    pair_starts: Array,
    pairs: Array,
    asked_s: Array,
    ts_s: Array,
    cells: Array,
    edges: Array,
) -> None:
    """Write each pair's bucket: that of the cell its gap's leading bits name, or the next one from its edge on."""
    longest = 0
    for b in sequences:
        longest = max(longest, starts[b + 1] - starts[b])
    gaps = np.empty(longest, np.float32)
    bits = gaps.view(np.int32)
    for b in sequences:
        first, at = starts[b], pair_starts[b]
        for i in range(starts[b + 1] - first):
            for j in range(i + 1):
                gaps[j] = np.float32(abs(asked_s[first + i] - ts_s[first + j]))
            for j in range(i + 1):
                bucket = np.int32(cells[bits[j] >> 18])
                pairs[at + j] = np.float32(bucket + np.int32(gaps[j] >= edges[bucket + 1]))
            at += i + 1


@compiled
def measure_log_gaps(
    sequences: Array, starts: Array, pair_starts: Array, pairs: Array, asked_s: Array, ts_s: Array
) -> None:
    """Write each pair's ln(max(gap, 1))."""
    for b in sequences:
        first, at = starts[b], pair_starts[b]
        for i in range(starts[b + 1] - first):
            for j in range(i + 1):
                pairs[at + j] = np.log(max(np.float32(abs(asked_s[first + i] - ts_s[first + j])), _ONE))
            at += i + 1


@compiled
def bias_rows(
    out_rn: Array, i: int, rows: int, pairs: Array, at: int, kind: int, positions: Array, times: Array
) -> None:
    """Fill a block with its bias; `at` is the first pair of row i, and what lies beyond a row's last key is zero."""
    zero = len(positions) // 2
    clear(out_rn, rows, i + ROWS)
    if kind == NONE:
        return
    for r in range(rows):
        row, last = out_rn[r], i + r
        if kind == BUCKETED:
            for j in range(last + 1):
                row[j] = positions[zero + j - last] + times[np.int32(pairs[at + j])]
        else:
            for j in range(last + 1):
                w = exp(min(times[1] * (pairs[at + j] - times[2]), _FAR))
                row[j] = positions[zero + j - last] + times[0] * exp(-w)
        at += last + 1


@compiled
def bias_back(
    g_rn: Array, i: int, rows: int, pairs: Array, at: int, kind: int, times: Array, g_positions: Array, g_times: Array
) -> None:
    """Add a block's gradient of the bias to the gradients of its tables."""
    zero = len(g_positions) // 2
    for r in range(rows):
        row, last = g_rn[r], i + r
        for j in range(last + 1):
            g_positions[zero + j - last] += row[j]
        if kind == BUCKETED:
            for j in range(last + 1):
                g_times[np.int32(pairs[at + j])] += row[j]
        else:
            g_amplitude = g_power = g_log_scale = _ZERO
            for j in range(last + 1):
                distance = pairs[at + j] - times[2]
                w = exp(min(times[1] * distance, _FAR))
                fallen = exp(-w)
                inner = row[j] * times[0] * fallen * w * (_ONE if times[1] * distance < _FAR else _ZERO)
                g_amplitude += row[j] * fallen
                g_power -= inner * distance
                g_log_scale += inner * times[1]
            g_times[0] += g_amplitude
            g_times[1] += g_power
            g_times[2] += g_log_scale
        at += last + 1
