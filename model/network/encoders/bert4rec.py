"""BERT4Rec's encoder (Sun et al., 2019, arXiv 1904.06690): a Transformer that reads histories from both sides.

L tokens, B sequences, R tokens whose outputs are read, M tokens of their prefixes, D width, H heads of d. One layer:

    a = norm(x + attention(x @ W_q, x @ W_k, x @ W_v) @ W_o)     softmax over the whole sequence, scaled by 1/sqrt(d)
    x = norm(a + gelu(a @ W_1 + b_1) @ W_2 + b_2)                point-wise, 4D wide inside

The output at a [MASK] is gelu(x @ W_p + b_p). The item of a [MASK] is hidden: it has one learnt row in place of it, and
the row of its place, which all tokens get.

- *Tested* is a [MASK] after what was known: the output at token t is that of the sequence x_0 … x_t [MASK], read both
  ways. So it sees nothing after t, as the output of any encoder here, and each t costs a pass over all before it: n
  queries of a history cost n²/2 tokens where a causal encoder computes n. Only outputs that are read are computed
  (`read_R`): of `topk` one, of `rank` one a candidate.
- *Learnt* is the same output, which is the paper's fine-tuning (the last item masked); and, where examples of the past
  are replayed, its Cloze: hidden targets are predicted from both sides in one pass over the example. There it takes the
  place of the next-item loss, and towers for clicks learn nothing from replays. Without `train.replay_every` there is
  no Cloze. Each event is tested before any loss has seen it (model/learning/cloze.py).

Differences from the paper:

- The Cloze and the fine-tuning alternate in one pass, in place of epochs over masked copies of all sequences.
- The loss is that of every encoder here, a sampled softmax over cosines without an item's bias: what is popular is the
  counts' business. A query has the recency means as well.
- Tokens have actions and kinds, and the places of recommender.py beside those that a [MASK] has too.
- No dropout in the layers: one pass serves the test and the loss. Only replayed examples have some, around the encoder.

The settings `attention` and `bias` have no effect.
"""

from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu

from model.arrays.ranges import ranges
from model.arrays.take_rows import take_rows
from model.attention.tile_plan import checked
from model.config import ModelSettings
from model.network.encoders.masked import MaskedEncoder
from model.network.encoders.transformer import Attention, Norm, both_ways

_STD: Final = 0.02  # of the layers' first weights, cut off there, as in the paper
_INNER: Final = 4  # width inside the feed-forward block, in multiples of D


class Layer(nn.Module):
    """Self-attention and a feed-forward block, each with a residual and a norm after it."""

    def __init__(self, dim: int, *, heads: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = Norm(dim, dtype=dtype), Norm(dim, dtype=dtype)
        self.w_qkv = _drawn(dim, 3 * dim, dtype, generator)
        self.w_o = _drawn(dim, dim, dtype, generator)
        self.w_1, self.w_2 = _drawn(dim, _INNER * dim, dtype, generator), _drawn(_INNER * dim, dim, dtype, generator)
        self.b_1, self.b_2 = (nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (_INNER * dim, dim))

    def forward(self, x_MD: Tensor, attention: Attention) -> Tensor:
        """Return the layer's output, [M, D]."""
        a_MD = self.norm_attention(x_MD + attention(x_MD @ self.w_qkv, self.heads) @ self.w_o)
        inner_MD = gelu(torch.addmm(self.b_1, a_MD, self.w_1))
        y_MD: Tensor = self.norm_feed(a_MD + torch.addmm(self.b_2, inner_MD, self.w_2))
        return y_MD


class Encoder(MaskedEncoder):
    """The layers of one recommender, the rows of [MASK] and of places, and the projection of an output."""

    replaces: ClassVar[bool] = True

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__(settings, dtype=dtype, generator=generator)
        dim = settings.dim
        self.mask = nn.Parameter(torch.empty(dim, dtype=dtype))
        self.places = nn.Parameter(torch.empty(settings.max_len + 1, dim, dtype=dtype))
        for embedding in (self.mask, self.places):
            nn.init.normal_(embedding, 0.0, dim**-0.5, generator=generator)
        self.w_p, self.b_p = _drawn(dim, dim, dtype, generator), nn.Parameter(torch.zeros(dim, dtype=dtype))

    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> Layer:
        """Return a new layer."""
        return Layer(self.settings.dim, heads=self.settings.heads, dtype=dtype, generator=generator)

    def forward(
        self,
        x_LD: Tensor,
        offsets: Tensor,
        ts_ms_L: Tensor,
        num_targets: Tensor | None = None,
        *,
        asked_ms_L: Tensor | None = None,
        read_R: Tensor | None = None,
    ) -> Tensor:
        """Return the output of a [MASK] after each token that is read, zeros at the others, [L, D]; times count not."""
        bounds, targets_B = checked(offsets, len(x_LD), num_targets, self.settings.max_len, 0)
        at_R = np.arange(len(x_LD)) if read_R is None else read_R.cpu().numpy()
        *prefixes, ends = _prefixes(bounds, targets_B, at_R)
        at_M, places_M, masks_R = (torch.from_numpy(array).to(x_LD.device) for array in (*prefixes, ends[1:] - 1))
        x_MD = take_rows(torch.cat((x_LD, self.mask[None])), at_M) + take_rows(self.places, places_M)
        y_RD = self.predicted(take_rows(self._through(x_MD, ends), masks_R))
        return y_RD if read_R is None else torch.zeros_like(x_LD).index_copy(0, read_R, y_RD)

    def both_ways(self, x_mD: Tensor, offsets: Tensor, places_m: Tensor, hidden_m: Tensor) -> Tensor:
        """Return the output at each token, [m, D]; what a hidden one has is replaced."""
        x_mD = torch.where(hidden_m[:, None], self.mask, x_mD) + take_rows(self.places, places_m)
        return self._through(x_mD, offsets.cpu().numpy())

    def predicted(self, y_cD: Tensor) -> Tensor:
        """Return the projection of outputs, [c, D]."""
        return gelu(torch.addmm(self.b_p, y_cD, self.w_p))

    def _through(self, x_MD: Tensor, ends: NDArray[np.int64]) -> Tensor:
        """Return the layers' output at each token of sequences that are read both ways, [M, D]."""
        attention = both_ways(ends, x_MD.device)
        for layer in self.layers:
            x_MD = layer(x_MD, attention)
        return x_MD


def _prefixes(
    bounds: NDArray[np.int64], targets_B: NDArray[np.int64], read_R: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the sequences to encode for the tokens that are read: tokens and places, [M] each, and bounds, [R+1].

    The sequence of a token is the history before it, the token, and a [MASK], which has the number L.
    """
    owner_R = np.searchsorted(bounds, read_R, side="right") - 1
    start_R = bounds[owner_R]
    before_R = np.minimum(read_R - start_R, np.diff(bounds)[owner_R] - targets_B[owner_R])
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(before_R + 2)))
    row_M, at_M = ranges(start_R, before_R + 2)
    places_M = at_M - start_R[row_M]
    at_M[ends[1:] - 2], at_M[ends[1:] - 1] = read_R, bounds[-1]
    return at_M, places_M, ends


def _drawn(rows: int, columns: int, dtype: torch.dtype, generator: torch.Generator) -> nn.Parameter:
    weights = torch.empty(rows, columns, dtype=dtype)
    return nn.Parameter(nn.init.trunc_normal_(weights, 0.0, _STD, -_STD, _STD, generator=generator))
