"""One replayed share read from both sides, with targets hidden: what an encoder learns from beside its causal pass.

L tokens of the share, P retrieval targets, c hidden ones, m tokens that are read, D width. A hidden token has no item
and no action, only its place and kind; the encoder has a row for what is hidden. The query of a hidden target has the
recency means up to its own query, as when it was tested. Source: model/learning/cloze.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.take_rows import take_rows
from model.data.entity_index import RowBatch
from model.learning.cloze import Cloze, cloze_of, hide
from model.learning.dropout import Dropout
from model.network.encoders.masked import Hidden, MaskedEncoder
from model.network.encoders.value_loss import values_of
from model.optim.parameters import Gathered, Parameters


class ClozePass:
    """The pass; `hidden` are the hidden targets among the share's, `queries_cD` their queries.

    Args:
        weights: The parameters.
        encoder: Their encoder.
        whole: The micro-batch, of which hidden targets are drawn.
        examples: From which one to before which one the share goes.
        dropout: Whose generator draws them, and which drops of the output.
        content_LD: The share's rows of items and attributes, dropped.
        action_LD: Its rows of actions, dropped.
    """

    def __init__(
        self,
        weights: Parameters,
        encoder: MaskedEncoder,
        whole: RowBatch,
        examples: tuple[int, int],
        dropout: Dropout,
        content_LD: Tensor,
        action_LD: Tensor,
    ) -> None:
        self.encoder, tensor, recommender = encoder, weights.tensor, weights.recommender
        batch, hidden_P = whole.part(*examples), hide(whole, dropout.rng)
        targets = whole.tokens.targets_of(*examples)
        own = slice(*np.searchsorted(whole.targets.positive, (targets.start, targets.stop)))
        cloze = cloze_of(batch, hidden_P[own])
        self.hidden, self.part = cloze.hidden, len(cloze.hidden) / max(1, int(np.count_nonzero(hidden_P)))
        share = slice(*whole.tokens.offsets[[*examples]]), len(whole.tokens.keys)
        y_LD = dropout.output(self._outputs(weights, batch, cloze, content_LD, action_LD), *share)
        asked = batch.targets.positive[self.hidden]
        self.y_cD = take_rows(y_LD, tensor(batch.tokens.positions[asked]))
        kinds_L, offsets = tensor(batch.tokens.kinds), tensor(batch.tokens.offsets)
        query_c = tensor(batch.tokens.queries[asked])
        self.queries_cD = recommender.with_recency(encoder.predicted(self.y_cD), query_c, content_LD, kinds_L, offsets)

    def _outputs(
        self, weights: Parameters, batch: RowBatch, cloze: Cloze, content_LD: Tensor, action_LD: Tensor
    ) -> Tensor:
        """Return the output at each token that is read, zeros at the others, [L, D]."""
        read_m, places_m, hidden_m = (weights.tensor(array) for array in (cloze.read, cloze.places_m, cloze.hidden_m))
        seen_m1 = ~hidden_m[:, None]
        content_mD, action_mD = (take_rows(x_LD, read_m) * seen_m1 for x_LD in (content_LD, action_LD))
        kinds_m = weights.tensor(batch.tokens.kinds[cloze.read]).to(torch.int64)
        x_mD = weights.recommender.embed(content_mD, action_mD, kinds_m, places_m)
        y_mD = self.encoder.both_ways(x_mD, weights.tensor(cloze.offsets), places_m, hidden_m)
        return torch.zeros_like(content_LD).index_copy(0, read_m, y_mD)

    def feature_loss(
        self, gathered: Gathered, at_P: NDArray[np.int64], at_K: NDArray[np.int64], known: int
    ) -> Tensor | None:
        """Return this share's part of the mean losses by features; None where there are none.

        Args:
            gathered: The rows of the causal pass.
            at_P: Where the targets' items are among its vectors; -1 without a row.
            at_K: Where the negatives are.
            known: The number of the micro-batch's targets that have a row.
        """
        if not self.encoder.by_features or gathered.bags is None:
            return None
        at_P, at_c = at_P[at_P >= 0], at_P[self.hidden]
        found = Hidden(
            outputs=self.y_cD,
            hidden_values=values_of(gathered.bags, at_c, at_K),
            rows=take_rows(gathered.own, torch.as_tensor(at_P, device=gathered.own.device)),
            values=values_of(gathered.bags, at_P, at_K),
            features=gathered.features.leaf,
        )
        of_hidden_c, of_items_P = self.encoder.feature_losses(found)
        return self.part * of_hidden_c.mean() + of_items_P.sum() / known
