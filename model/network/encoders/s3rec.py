"""S3Rec's encoder (Zhou et al., 2020, arXiv 2008.07873): SASRec that also learns from hidden items and from features.

c hidden targets, P targets, D width. Outputs are those of transformer.py: what is tested, and the next-item loss, are
SASRec's. In each step on the past the same layers also read the replayed examples from both sides, with some targets
hidden (model/learning/cloze.py), and three of the paper's four losses are added. With F_t the output at a hidden target
t of item i, and e_i the item's own row:

    AAP, .2   e_i @ W_aap, by value_loss.py       which features has an item?
    MIP, 1    F_t @ W_mip, by retrieval_loss.py   which item is hidden?
    MAP, 1    F_t @ W_map, by value_loss.py       which features has the hidden item?

All are InfoNCE, as in the paper. Weights are those of the authors' code.

- The paper trains by these losses for many epochs first, and by the next item afterwards. One pass has no first; so
  they stand beside the next-item loss, on what has been tested and learnt from before. Without `train.replay_every`
  this is SASRec.
- An item's vector has its features in it already, so AAP asks of its own row. The rows of features that are predicted
  are those that are part of items' vectors.
- Scores have no sigmoid around them, which bounds them to (0, 1). Values that an item lacks are those of the negatives
  of the step, in place of all; a hidden item's score is a cosine over the temperature with the recency means in the
  query, as everywhere here.
- Left out is SP (which segment was cut out?): it tells a segment from those of other histories of the batch, of which a
  replayed step has three, and of several ranks each has only its own.
- The layers are SASRec's own, not those of the authors' code (4D inside, GELU, norms after the residual): so the
  difference from `transformer` is what the losses teach.

Without a catalogue MIP is left. The settings `attention` and `bias` have no effect.
"""

from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from model.config import ModelSettings
from model.network.encoders import transformer
from model.network.encoders.masked import Hidden, MaskedEncoder
from model.network.encoders.value_loss import value_loss

_AAP: Final = 0.2  # weight of the loss


class Auxiliary(nn.Module):
    """What no output of `forward` depends on: the row of a hidden token, and a matrix for each loss."""

    def __init__(self, dim: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.empty(dim, dtype=dtype))
        nn.init.normal_(self.mask, 0.0, dim**-0.5, generator=generator)
        self.w_aap, self.w_mip, self.w_map = (nn.Parameter(torch.empty(dim, dim, dtype=dtype)) for _ in range(3))
        for square in (self.w_aap, self.w_mip, self.w_map):
            nn.init.xavier_uniform_(square, generator=generator)


class Encoder(transformer.Encoder, MaskedEncoder):
    """SASRec's layers, and what the auxiliary losses need."""

    replaces: ClassVar[bool] = False
    by_features: ClassVar[bool] = True

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__(settings, dtype=dtype, generator=generator)
        self.auxiliary = Auxiliary(settings.dim, dtype=dtype, generator=generator)

    def both_ways(self, x_mD: Tensor, offsets: Tensor, places_m: Tensor, hidden_m: Tensor) -> Tensor:
        """Return the output at each token, [m, D]; a hidden one has the row of [MASK] beside its place and kind."""
        attention = transformer.both_ways(offsets.cpu().numpy(), x_mD.device)
        x_mD = x_mD + hidden_m[:, None] * self.auxiliary.mask
        return self.through(x_mD, attention)

    def predicted(self, y_cD: Tensor) -> Tensor:
        """Return the outputs as MIP reads them, [c, D]."""
        return y_cD @ self.auxiliary.w_mip

    def feature_losses(self, hidden: Hidden) -> tuple[Tensor, Tensor]:
        """Return MAP of each hidden target, [c], and AAP of each target, weighted, [P]."""
        of_hidden_c = value_loss(hidden.outputs @ self.auxiliary.w_map, hidden.features, hidden.hidden_values)
        of_items_P = value_loss(hidden.rows @ self.auxiliary.w_aap, hidden.features, hidden.values)
        return of_hidden_c, _AAP * of_items_P
