"""The paper's relative attention bias: a learnt number per distance in places plus one per bucket of the time gap.

N = max_len; b sequences, r rows, k keys of a tile (model/attention/plan.py). A layer's two tables, shared by its heads:

    positions [2N-1]   by place(key) - place(row) + N - 1; a candidate's place is the end of the history
    times     [129]    by floor(ln(max(gap, 1)) / 0.301), at most 128; gap = |asked(row) - ts(key)| in seconds

asked(row) is the time as of which a row looks: the NEXT token's (`next_ms`), as in Meta's research code, where the next
item is what is asked about. In a stream the next token may be a reaction to the row's own, and its time would tell how
the row's own impression ends; recommender.py says which rows look as of their own time instead. Gaps are taken in
float64 seconds and bucketed in float32: whole seconds give that code's buckets exactly.
"""

from typing import Final

import torch
from torch import Tensor, nn

from model.attention.masks import place, row_places
from model.attention.plan import Plan, Tile

BUCKETS: Final = 129
_LOG_STEP: Final = 0.301


class RelativeBias(nn.Module):
    """The two tables of one layer; initialised N(0, 0.02)."""

    def __init__(self, max_len: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(2 * max_len - 1, dtype=dtype))
        self.times = nn.Parameter(torch.empty(BUCKETS, dtype=dtype))
        for table in (self.positions, self.times):
            nn.init.normal_(table, 0.0, 0.02, generator=generator)

    def forward(self, steps: Tensor, buckets: Tensor) -> Tensor:
        """Give the bias of a tile, [b, r, k], from indices into both tables, [1, r, k] and [b, r, k]."""
        by_time_brk = self.times.index_select(0, buckets.flatten()).view(buckets.shape)
        by_place_1rk = self.positions.index_select(0, steps.flatten()).view(steps.shape)
        return by_time_brk + by_place_1rk


class Relations:
    """Where the rows and keys of a planned batch stand to one another: computed once, looked up by every layer."""

    def __init__(self, plan: Plan, ts_ms_L: Tensor, asked_ms_L: Tensor) -> None:
        ts_s_L, asked_s_L = ts_ms_L.double() / 1000, asked_ms_L.double() / 1000
        self._steps = [_steps(tile, plan.max_len) for tile in plan.tiles]
        self._buckets = [
            time_buckets(asked_s_L[plan.tokens_at(tile, tile.rows)], ts_s_L[plan.tokens_at(tile, tile.keys)])
            for tile in plan.tiles
        ]

    def bias(self, table: RelativeBias, tile: Tile) -> Tensor:
        """Give a layer's bias of a tile, [b, r, k]."""
        out: Tensor = table(self._steps[tile.number], self._buckets[tile.number])
        return out


def time_buckets(asked_s: Tensor, ts_s: Tensor) -> Tensor:
    """Give the time bucket of each pair of float64 seconds, i32 in the shape they broadcast to."""
    gaps = (asked_s - ts_s).abs_().to(torch.float32)
    return gaps.clamp_(min=1).log_().div_(_LOG_STEP).clamp_(max=BUCKETS - 1).to(torch.int32)


def next_ms(
    ts_ms_L: Tensor, offsets: Tensor, *, num_targets: Tensor | None = None, request_ms: Tensor | None = None
) -> Tensor:
    """Give the time as of which each row looks, [L]: the next token's.

    The last row looks as of its sequence's `request_ms` [B], the time of the request being answered, or else as of
    its own time. Candidates look as of their own; the next token of the history's last row is the first of them, so
    give all candidates one time, that of the request.
    """
    asked_L = ts_ms_L.roll(-1)
    filled = offsets.diff() > 0
    last = offsets[1:][filled] - 1
    asked_L[last] = ts_ms_L[last] if request_ms is None else request_ms[filled]
    if num_targets is None:
        return asked_L
    _, candidate_L = row_places(offsets, len(ts_ms_L), num_targets)
    return torch.where(candidate_L, ts_ms_L, asked_L)


def _steps(tile: Tile, max_len: int) -> Tensor:
    distance = place(tile.keys, tile.history) - place(tile.rows, tile.history)
    return (distance + (max_len - 1)).to(torch.int32)
