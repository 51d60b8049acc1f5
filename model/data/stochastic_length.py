"""Stochastic Length: long sequences are trained on a part of their tokens, most of the time (Zhai et al., 2024).

N = model.max_len, n = tokens of an example, B examples, L tokens of a micro-batch. The paper's rule, alpha in (1, 2]:

    n <= N^(alpha/2)     the whole sequence
    n >  N^(alpha/2)     with probability 1 - N^alpha / n^2 only N^(alpha/2) of its tokens, else the whole

so that attention costs O(N^alpha) instead of O(N^2). Always kept are targets, the tokens of their queries, and the
tokens right after these (a query takes its time from the next token). The others are drawn without replacement, the
token at place i of its example with weight i + 1: twice as far along, twice as likely. Order and times stay; positions
are renumbered, as if the dropped tokens had never been. Only the training pass is shortened; tests see all tokens.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.data.micro_batch import PackedBatch


def kept_tokens(batch: PackedBatch, max_len: int, alpha: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which tokens of a micro-batch are trained on, [L]; equal generators keep equal tokens."""
    short, lengths_B = int(max_len ** (alpha / 2)), np.diff(batch.offsets)
    uniform_B, uniform_L = rng.random(len(lengths_B)), rng.random(len(batch.keys))
    shorten_B = (lengths_B > short) & (uniform_B < 1 - max_len**alpha / np.maximum(lengths_B, 1) ** 2.0)
    kept_L = np.ones(len(batch.keys), np.bool_)
    needed_L = _needed(batch)
    for b in np.flatnonzero(shorten_B):
        part = slice(batch.offsets[b], batch.offsets[b + 1])
        weights = np.arange(1, lengths_B[b] + 1)
        order = np.where(needed_L[part], 1.0, np.log1p(-uniform_L[part]) / weights)  # the largest are a weighted draw
        count = max(short, int(np.count_nonzero(needed_L[part])))
        kept_L[part] = False
        kept_L[part.start + np.argpartition(-order, count - 1)[:count]] = True
    return kept_L


def _needed(batch: PackedBatch) -> NDArray[np.bool_]:
    """Return which tokens are always kept, [L]."""
    needed_L = np.zeros(len(batch.keys), np.bool_)
    queries = batch.queries[batch.queries >= 0]
    for tokens in (batch.positions, queries, queries + 1):  # a query is before its target, so there is a next one
        needed_L[tokens] = True
    return needed_L


def shortened(batch: PackedBatch, kept_L: NDArray[np.bool_]) -> PackedBatch:
    """Return the batch with the kept tokens only, which include its targets; these point at the same tokens.

    Where the token of a query is not kept, the last one before it takes its place.
    """
    before: NDArray[np.int64] = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept_L)))
    query_T = before[batch.queries + 1] - 1
    columns = {name: getattr(batch, name)[kept_L] for name in ("keys", "actions", "ts_ms", "kinds")}
    return replace(
        batch,
        **columns,
        offsets=before[batch.offsets],
        positions=before[batch.positions],
        queries=np.where((batch.queries < 0) | (query_T < before[batch.offsets][batch.owners]), -1, query_T),
    )
