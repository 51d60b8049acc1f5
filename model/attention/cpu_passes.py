"""The compiled passes of the gated attention on a CPU over a share of a batch's sequences (cpu.py): forward, backward.

L tokens, E = width of z, D = H * d_v; the letters of cpu_kernels.py besides. A batch's pairs of row and key that see
one another lie in one array, sequence by sequence and row by row: row i of a sequence has i + 1 of them.
For each block of rows: the bias of all pairs, then for each head scores, weights, products; the bias's gradient is
summed over the heads before it is added to the tables.
"""

from typing import Any, Final

import numpy as np

from model.attention.cpu_kernels import (
    ROWS,
    Array,
    add,
    add_product,
    clear,
    compiled,
    copy,
    exp,
    gate,
    gate_back,
    load,
    load_slopes,
    multiply_rows,
    multiply_transposed,
    product_of_rows,
    transpose,
    weigh,
    weigh_back,
)

NONE, BUCKETED, FUNCTIONAL = range(3)
_SKEW: Final = 16  # columns beyond the longest sequence, lest rows of a power of two of bytes fall into one cache set
_ONE, _ZERO = np.float32(1), np.float32(0)
_FAR: Final = np.float32(20)  # as in model/bias.py


@compiled
def measure_buckets(
    share: Array,
    starts: Array,
    pair_starts: Array,
    pairs: Array,
    asked_s: Array,
    ts_s: Array,
    cells: Array,
    edges: Array,
) -> None:
    """Write each pair's bucket: that of the cell its gap's leading bits name, or the next one from its edge on."""
    gaps = np.empty(_padded(share, starts), np.float32)
    bits = gaps.view(np.int32)
    for b in share:
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
    share: Array, starts: Array, pair_starts: Array, pairs: Array, asked_s: Array, ts_s: Array
) -> None:
    """Write each pair's ln(max(gap, 1))."""
    for b in share:
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
    clear(out_rn, i // ROWS + 1)
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


@compiled
def forward(
    share: Array, starts: Array, pair_starts: Array, pairs: Array, positions: Array, times: Array,
    kind: int, phi: int, max_len: int, heads: int, d_qk: int, d_v: int, alpha: Any, eps: Any,
    z: Array, o: Array, y: Array,
) -> None:  # fmt: skip
    """Write o (kept for backward) and y = silu(u) * norm(o) of the sequences of a share."""
    p_qk, p_v, n_pad = (d_qk + 3) // 4 * 4, (d_v + 3) // 4 * 4, _padded(share, starts)
    k_Hdn, v_Hdn = np.zeros((heads, p_qk, n_pad), np.float32), np.zeros((heads, p_v, n_pad), np.float32)
    bias_rn, scores_rn = np.empty((ROWS, n_pad), np.float32), np.empty((ROWS, n_pad), np.float32)
    a_rE, o_rD = _block(z.shape[1]), _block(heads * d_v)
    v_column, q_column, k_column = heads * d_v, 2 * heads * d_v, heads * (2 * d_v + d_qk)
    for b in share:
        first, n, at = starts[b], starts[b + 1] - starts[b], pair_starts[b]
        for i in range(0, n, ROWS):
            rows, steps = min(ROWS, n - i), i // ROWS + 1
            quads = (rows + 3) // 4 * 4
            load(a_rE, z, first + i, rows)
            bias_rows(bias_rn, i, rows, pairs, at, kind, positions, times)
            for h in range(heads):
                transpose(k_Hdn[h], i, a_rE, k_column + h * d_qk, d_qk, alpha)
                transpose(v_Hdn[h], i, a_rE, v_column + h * d_v, d_v, _ONE)
                copy(scores_rn, bias_rn, steps)
                add_product(scores_rn[:quads], a_rE[:, q_column + h * d_qk :], k_Hdn[h], steps)
                weigh(scores_rn, i, rows, phi, max_len)
                product_of_rows(o_rD[:, h * d_v :], scores_rn[:quads], v_Hdn[h], steps)
            for r in range(rows):
                gate(y[first + i + r], o_rD[r], a_rE[r], eps)
                for c in range(heads * d_v):
                    o[first + i + r, c] = o_rD[r, c]
            at += rows * (i + 1) + rows * (rows - 1) // 2


@compiled
def backward(
    share: Array, starts: Array, pair_starts: Array, pairs: Array, positions: Array, times: Array,
    kind: int, phi: int, max_len: int, heads: int, d_qk: int, d_v: int, alpha: Any, eps: Any,
    z: Array, o: Array, gy: Array, gz: Array, g_positions: Array, g_times: Array,
) -> None:  # fmt: skip
    """Write gz and add to the gradients of the bias, from gy; scores and weights are computed once more."""
    p_qk, p_v, n_pad = (d_qk + 3) // 4 * 4, (d_v + 3) // 4 * 4, _padded(share, starts)
    k_Hdn, v_Hdn = np.zeros((heads, p_qk, n_pad), np.float32), np.zeros((heads, p_v, n_pad), np.float32)
    gk_Hdn, gv_Hdn = np.empty((heads, p_qk, n_pad), np.float32), np.empty((heads, p_v, n_pad), np.float32)
    bias_rn, g_bias_rn = np.empty((ROWS, n_pad), np.float32), np.empty((ROWS, n_pad), np.float32)
    scores_rn, g_rn = np.empty((ROWS, n_pad), np.float32), np.empty((ROWS, n_pad), np.float32)
    a_rE, go_rD, gq_rd = _block(z.shape[1]), _block(heads * d_v), _block(d_qk)
    v_column, q_column, k_column = heads * d_v, 2 * heads * d_v, heads * (2 * d_v + d_qk)
    for b in share:
        first, n, at = starts[b], starts[b + 1] - starts[b], pair_starts[b]
        for h in range(heads):
            clear(gk_Hdn[h], (n + ROWS - 1) // ROWS)
            clear(gv_Hdn[h], (n + ROWS - 1) // ROWS)
        for i in range(0, n, ROWS):
            rows, steps = min(ROWS, n - i), i // ROWS + 1
            quads = (rows + 3) // 4 * 4
            load_slopes(a_rE, gz, z, first + i, rows)
            bias_rows(bias_rn, i, rows, pairs, at, kind, positions, times)
            clear(g_bias_rn, steps)
            go_rD[rows:] = _ZERO
            for r in range(rows):
                gate_back(gz[first + i + r], go_rD[r], gy[first + i + r], o[first + i + r], a_rE[r], eps)
            for h in range(heads):
                transpose(k_Hdn[h], i, a_rE, k_column + h * d_qk, d_qk, alpha)
                transpose(v_Hdn[h], i, a_rE, v_column + h * d_v, d_v, _ONE)
                q_rd, go_rd = a_rE[:, q_column + h * d_qk :], go_rD[:, h * d_v :]
                copy(scores_rn, bias_rn, steps)
                clear(g_rn, steps)
                add_product(scores_rn[:quads], q_rd, k_Hdn[h], steps)
                add_product(g_rn[:quads], go_rd, v_Hdn[h], steps)
                weigh_back(scores_rn, g_rn, i, rows, phi, max_len)
                if kind != NONE:
                    add(g_bias_rn, g_rn, steps)
                product_of_rows(gq_rd, g_rn[:quads], k_Hdn[h], steps)
                multiply_rows(gz, first + i, gq_rd, rows, q_column + h * d_qk, d_qk)
                add_product(gk_Hdn[h], q_rd.T, g_rn[:quads], steps)
                add_product(gv_Hdn[h], go_rd.T, scores_rn[:quads], steps)
            if kind != NONE:
                bias_back(g_bias_rn, i, rows, pairs, at, kind, times, g_positions, g_times)
            at += rows * (i + 1) + rows * (rows - 1) // 2
        for h in range(heads):
            multiply_transposed(gz, first, gk_Hdn[h], n, k_column + h * d_qk, d_qk, alpha)
            multiply_transposed(gz, first, gv_Hdn[h], n, v_column + h * d_v, d_v, _ONE)


@compiled
def _block(width: int) -> Array:
    return np.zeros((ROWS, width + 4), np.float32)  # quads of columns may end beyond the last


@compiled
def _padded(share: Array, starts: Array) -> int:
    longest = 0
    for b in share:
        longest = max(longest, starts[b + 1] - starts[b])
    return (longest + ROWS - 1) // ROWS * ROWS + _SKEW
