"""Relative attention bias: a learned number per distance in places plus a function of the time gap.

N = max_len; b sequences, r rows, k keys of a tile (model/attention/tile_plan.py). A layer has one bias, shared by
its heads:

    positions [2N-1]   by place(key) - place(row) + N - 1; a candidate's place is the end of the history
    a time bias of gap = max(|asked(row) - ts(key)|, 1 s), one of
        bucketed       times[floor(ln(gap) / 0.301)], 129 numbers (the paper's; constants of Meta's research code)
        functional     amplitude * exp(-w), w = exp(power * (ln(gap) - log_scale)): three numbers, and no look-up

The functional bias is a * gamma^(gap^beta) of FuXi-gamma (arXiv 2512.12740) with beta = power in (0, 1) and
gamma = exp(-scale^-beta): a stretched exponential that has fallen to 1/e after `scale` seconds. In this form its
parameters have no bounds: power is the sigmoid of one, scale the exponential of another, and no value overflows.

asked(row) is the time from which a row looks back: the NEXT token's (`next_ms`), as in Meta's research code, where the
row predicts the next item. In a stream the next token may be a reaction to the row's own impression, and its time would
reveal that reaction; recommender.py says which rows look back from their own time instead. Gaps are taken in float64
seconds and bucketed in float32: whole seconds give that code's buckets exactly.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from model.attention.masks import place, row_places
from model.attention.tile_plan import Tile, TilePlan

BUCKETS: Final = 129
LOG_STEP: Final = 0.301
FAR: Final = 20.0  # upper bound of ln(w): exp(-exp(20)) is 0 in every dtype, and no product with it is inf * 0
_HOUR_S: Final = 3600.0


class RelativeBias(nn.Module):
    """The paper's bias of one layer: two tables, initialised N(0, 0.02)."""

    def __init__(self, max_len: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(2 * max_len - 1, dtype=dtype))
        self.times = nn.Parameter(torch.empty(BUCKETS, dtype=dtype))
        for table in (self.positions, self.times):
            nn.init.normal_(table, 0.0, 0.02, generator=generator)

    @staticmethod
    def measure(asked_s: Tensor, ts_s: Tensor) -> Tensor:
        """Return the time bucket of each pair."""
        return time_buckets(asked_s, ts_s)

    def forward(self, steps: Tensor, buckets: Tensor) -> Tensor:
        """Return the bias of a tile, [b, r, k], from indices into both tables, [1, r, k] and [b, r, k]."""
        return _look_up(self.times, buckets) + _look_up(self.positions, steps)


class FunctionalBias(nn.Module):
    """A bias of one layer that decays with the gap; it starts with a scale of an hour and a power of 1/4.

    So at the start it tells seconds (0.9 of the amplitude), hours (0.4) and weeks (0.03) apart.
    """

    def __init__(self, max_len: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(2 * max_len - 1, dtype=dtype))
        self.amplitude = nn.Parameter(torch.empty(1, dtype=dtype))
        self.log_scale = nn.Parameter(torch.full((1,), math.log(_HOUR_S), dtype=dtype))
        self.power_logit = nn.Parameter(torch.full((1,), -math.log(3), dtype=dtype))
        for normal in (self.positions, self.amplitude):
            nn.init.normal_(normal, 0.0, 0.02, generator=generator)

    @staticmethod
    def measure(asked_s: Tensor, ts_s: Tensor) -> Tensor:
        """Return the logarithm of each pair's gap."""
        return log_gaps(asked_s, ts_s)

    def forward(self, steps: Tensor, log_gaps: Tensor) -> Tensor:
        """Return the bias of a tile, [b, r, k], from indices of distances [1, r, k] and log gaps [b, r, k]."""
        power = torch.sigmoid(self.power_logit)
        log_w = power * (log_gaps.to(power.dtype) - self.log_scale)
        return self.amplitude * torch.exp(-torch.exp(log_w.clamp(max=FAR))) + _look_up(self.positions, steps)


Bias = RelativeBias | FunctionalBias
BIASES: Final[dict[str, type[Bias]]] = {"bucketed": RelativeBias, "functional": FunctionalBias}


class Relations:
    """Distances and time gaps between the rows and keys of a planned batch: computed once, used by every layer."""

    def __init__(self, plan: TilePlan, ts_ms_L: Tensor, asked_ms_L: Tensor, kind: type[Bias] = RelativeBias) -> None:
        ts_s_L, asked_s_L = ts_ms_L.double() / 1000, asked_ms_L.double() / 1000
        self._steps = [_steps(tile, plan.max_len) for tile in plan.tiles]
        self._times = [
            kind.measure(asked_s_L[plan.tokens_at(tile, tile.rows)], ts_s_L[plan.tokens_at(tile, tile.keys)])
            for tile in plan.tiles
        ]

    def bias(self, layer: Bias, tile: Tile) -> Tensor:
        """Return a layer's bias of a tile, [b, r, k]."""
        out: Tensor = layer(self._steps[tile.number], self._times[tile.number])
        return out


def log_gaps(asked_s: Tensor, ts_s: Tensor) -> Tensor:
    """Return ln(max(|gap|, 1)) of each pair of float64 seconds, float32 in the shape they broadcast to."""
    return (asked_s - ts_s).abs_().to(torch.float32).clamp_(min=1).log_()


def time_buckets(asked_s: Tensor, ts_s: Tensor) -> Tensor:
    """Return the time bucket of each pair of float64 seconds, i32 in the shape they broadcast to."""
    return log_gaps(asked_s, ts_s).div_(LOG_STEP).clamp_(max=BUCKETS - 1).to(torch.int32)


def next_ms(
    ts_ms_L: Tensor, offsets: Tensor, *, num_targets: Tensor | None = None, request_ms: Tensor | None = None
) -> Tensor:
    """Return the time from which each row looks back, [L]: the next token's.

    For the last row it is its sequence's `request_ms` [B], the time of the request being answered, or else its own
    time. For candidates it is their own time. The next token of the history's last row is the first candidate, so all
    candidates must have one time, that of the request.
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


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view(index.shape)
