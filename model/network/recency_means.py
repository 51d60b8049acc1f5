"""Means of the items that the user acted on last, weighted by recency at several scales: a short-cut past the encoder.

T queries, L tokens, B sequences, S scales, D width, K = LAST actions. With e_k the row of the item of the k-th last
action up to the query, k = 0 for the last one:

    mean_s = sqrt(D) * sum_k decay_s^k e_k / sum_k decay_s^k        over the last K actions, fewer if there are fewer
    sum over s of gain_s * mean_s                                   is added to the encoder's output at the query

A decay of 0 takes the last item alone. The gains are learnt, one for each scale and dimension. So a query begins near
what the user did last, as a co-occurrence count does, and the encoder learns what is beyond that. Items that were only
shown do not count.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from model.arrays.take_rows import take_rows
from stream.example import Kind

LAST: Final = 24
_GAIN: Final = 0.35  # of each scale at first


class RecencyMeans(nn.Module):
    """The gains of all scales."""

    def __init__(self, dim: int, decays: Sequence[float], *, dtype: torch.dtype) -> None:
        super().__init__()
        self._weight_nSK: Tensor  # of the k-th last action where there are n of them, [LAST + 1, S, LAST]
        self.register_buffer("_weight_nSK", _weights(decays).to(dtype), persistent=False)
        self.gain = nn.Parameter(torch.full((len(decays), dim), _GAIN, dtype=dtype))

    def forward(self, content_LD: Tensor, kinds_L: Tensor, offsets: Tensor, query_T: Tensor) -> Tensor:
        """Return what is added to the encoder's output at each query, [T, D]; zeros where the user has not acted.

        Args:
            content_LD: Rows of the tokens' items, not yet scaled.
            kinds_L: Values of stream.example.Kind.
            offsets: Bounds of the sequences, i64[B+1].
            query_T: The query's token, -1 for no history.
        """
        acted_L = kinds_L == Kind.ACTION
        if not len(query_T) or not acted_L.any():
            return content_LD.new_zeros(len(query_T), content_LD.shape[1])
        before = torch.cat((offsets.new_zeros(1), acted_L.cumsum(0)))  # [L+1] actions before each token
        sequence_T = (torch.searchsorted(offsets, query_T, right=True) - 1).clamp(min=0)
        end_T = before[query_T + 1]
        count_T = (end_T - before[offsets[sequence_T]]).clamp(max=LAST)
        at_TK = (end_T[:, None] - 1 - torch.arange(LAST, device=end_T.device)).clamp(min=0)
        token_A = torch.nonzero(acted_L).flatten()
        row_TKD = take_rows(content_LD, token_A[at_TK].flatten()).view(*at_TK.shape, -1)
        mean_TSD = self._weight_nSK.to(content_LD.dtype)[count_T] @ row_TKD
        return (mean_TSD * self.gain).sum(1) * math.sqrt(content_LD.shape[1])


def _weights(decays: Sequence[float]) -> Tensor:
    """Return the weight of the k-th last action where there are n of them, f64[LAST + 1, S, LAST]."""
    k = torch.arange(LAST)
    decay_SK = torch.tensor(decays, dtype=torch.float64)[:, None] ** k
    weight_nSK = decay_SK * (k < torch.arange(LAST + 1)[:, None, None])
    return weight_nSK / weight_nSK.sum(-1, keepdim=True).clamp(min=1)
