"""One forward pass over a micro-batch: its outputs are tested, and its loss is trained on. No weight moves here.

L = tokens, P = retrieval targets, N = ranking targets, K = negatives, U = distinct rows that the micro-batch touches,
A = actions with a tower, D = width. The rows of both tables are gathered once into one matrix, which has the vectors of
dead items after them, and ends with a row of zeros: the action of a token that has none. Gradients reach the two
gathered leaves; what the dead had stays as it is.

Of several ranks each passes over its share of the examples, and its loss is its part of the whole micro-batch's.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.take_rows import take_rows
from model.config import TrainSettings
from model.data.entity_index import RowBatch
from model.data.labels import accidental_hits
from model.learning.cloze_pass import ClozePass
from model.learning.dropout import Dropout
from model.learning.negatives import Negatives
from model.network import ranking_head
from model.network.encoders.masked import MaskedEncoder
from model.network.ranking.history import Candidates, Histories, Tokens, candidates_of, histories
from model.network.retrieval_loss import sampled_softmax
from model.optim.parameters import Parameters


class Outputs(NamedTuple):
    """What is tested of a micro-batch."""

    queries: Tensor  # [P, D]
    logits: Tensor  # [N, A]


class ForwardPass:
    """The pass; the outputs of this rank's share are `queries_PD` and `logits_NA`.

    Args:
        weights: The parameters, as they are before this micro-batch is trained on.
        batch: The micro-batch by rows.
        negatives: Negatives of the retrieval loss; None where it has no target or no item is live.
        dropout: What is dropped of the embedded tokens and of the encoder's output; None: nothing.
    """

    def __init__(
        self,
        weights: Parameters,
        batch: RowBatch,
        negatives: Negatives | None = None,
        dropout: Dropout | None = None,
    ) -> None:
        self._weights, self._negatives, self._whole = weights, negatives, batch
        self._cloze: ClozePass | None = None
        shares = batch.tokens.shares(weights.ranks.count)
        start, stop = shares[weights.ranks.rank]
        self._batch = batch = batch if len(shares) == 1 else batch.part(start, stop)
        tokens, targets, rows = batch.tokens, batch.targets, batch.rows
        drawn = negatives.rows if negatives else np.empty(0, np.int64)
        features = np.concatenate((rows.attributes, rows.actions))
        self.gathered = weights.gather(np.concatenate((rows.items, drawn)), features)
        item_at_L, self._item_at_K = np.split(self.gathered.item_at, [len(tokens.keys)])
        self._positive_at_P = item_at_L[tokens.positions[targets.positive]]
        recommender, tensor = weights.recommender, weights.tensor
        content_LD, action_LD = self._embed(item_at_L)
        share = slice(*self._whole.tokens.offsets[[start, stop]]), len(self._whole.tokens.keys)
        if dropout:
            content_LD, action_LD = dropout.input(content_LD, *share), dropout.input(action_LD, *share)
            if isinstance(recommender.encoder, MaskedEncoder):
                of_share = self._whole, (start, stop), dropout, content_LD, action_LD
                self._cloze = ClozePass(weights, recommender.encoder, *of_share)
        kinds_L, ts_ms_L, offsets = tensor(tokens.kinds), tensor(tokens.ts_ms), tensor(tokens.offsets)
        read_R = tensor(self._read())
        y_LD = recommender.encode(content_LD, action_LD, kinds_L, ts_ms_L, offsets, read_R=read_R)
        if dropout:
            y_LD = dropout.output(y_LD, *share)
        query_P = tensor(tokens.queries[targets.positive])
        self.queries_PD = recommender.queries(y_LD, query_P, content_LD, kinds_L, offsets)
        self._ranked: tuple[Histories, Candidates] | None = None  # what a model that only ranks has read
        if recommender.ranker is None:
            self.logits_NA = self._rank_logits(y_LD, content_LD)
        else:
            token_rows = Tokens(content_LD, action_LD, tensor(rows.items), kinds_L, ts_ms_L, offsets)
            self._ranked = self._asked(token_rows, recommender.ranker.behaviours)
            self.logits_NA = recommender.ranker(*self._ranked)

    @property
    def _replaced(self) -> bool:
        """Whether the loss of hidden targets is all that is learnt."""
        return self._cloze is not None and self._cloze.encoder.replaces

    def _read(self) -> NDArray[np.int64]:
        """Return the tokens at which the causal pass is read."""
        if self._replaced:
            return np.empty(0, np.int64)
        tokens, targets = self._batch.tokens, self._batch.targets
        shown = tokens.positions[targets.shown]
        asked = tokens.queries[np.concatenate((targets.positive, targets.shown))]
        read: NDArray[np.int64] = np.unique(np.concatenate((asked[asked >= 0], shown)))
        return read

    def outputs(self) -> Outputs:
        """Return the outputs of all ranks' shares."""
        join = self._weights.ranks.join
        return Outputs(join(self.queries_PD.detach()), join(self.logits_NA.detach()))

    def _embed(self, item_at_L: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the rows of the tokens' items or attributes, and those of their actions, [L, D] each."""
        rows, tensor, frozen_FD = self._batch.rows, self._weights.tensor, self._batch.frozen
        items, features = self.gathered.vectors, self.gathered.features.leaf
        parts = [items, features] if frozen_FD is None else [items, features, tensor(frozen_FD)]
        self._matrix = torch.cat((*parts, items.new_zeros(1, items.shape[1])))
        attribute_at_L, action_at_L = np.split(len(items) + self.gathered.feature_at, 2)
        self._content_at_L = np.where(rows.items >= 0, item_at_L, attribute_at_L)
        if frozen_FD is not None:
            frozen_at_L = len(items) + len(features) + rows.frozen
            self._content_at_L = np.where(rows.frozen >= 0, frozen_at_L, self._content_at_L)
        action_L = np.where(rows.actions >= 0, action_at_L, len(self._matrix) - 1)
        content_LD = take_rows(self._matrix, tensor(self._content_at_L))
        return content_LD, take_rows(self._matrix, tensor(action_L))

    def _rank_logits(self, y_LD: Tensor, content_LD: Tensor) -> Tensor:
        """Return the logits of the shown items; a query is computed once for each request."""
        tokens, recommender, tensor = self._batch.tokens, self._weights.recommender, self._weights.tensor
        shown = self._batch.targets.shown
        position_N = tokens.positions[shown]
        asked_R, request_N = np.unique(tokens.queries[shown], return_inverse=True)
        with torch.no_grad():
            kinds_L, offsets = tensor(tokens.kinds), tensor(tokens.offsets)
            query_RD = recommender.queries(y_LD.detach(), tensor(asked_R), content_LD.detach(), kinds_L, offsets)
            rows_ND = self._matrix.index_select(0, tensor(self._content_at_L[position_N]))
        y_ND = take_rows(y_LD, tensor(position_N))
        return recommender.rank_logits(y_ND, query_RD.index_select(0, tensor(request_N)), rows_ND)

    def _asked(self, token_rows: Tokens, behaviours: int) -> tuple[Histories, Candidates]:
        """Return the histories before the requests of the shown items, each once, and these items."""
        tokens, tensor, shown = self._batch.tokens, self._weights.tensor, self._batch.targets.shown
        position_N = tokens.positions[shown]
        asked_R, first_R, request_N = np.unique(tokens.queries[shown], return_index=True, return_inverse=True)
        request_ms_R = tokens.request_ms[shown][first_R]
        rows_ND = take_rows(self._matrix, tensor(self._content_at_L[position_N]))
        items_N = tensor(self._batch.rows.items[position_N])
        asked = histories(token_rows, tensor(asked_R), tensor(request_ms_R), behaviours)
        return asked, candidates_of(rows_ND, items_N, tensor(request_N))

    def loss(self, train: TrainSettings) -> Tensor | None:
        """Return the retrieval loss plus the weighted ranking loss; None where there is no target.

        Both are means over the targets of the micro-batch, to which a rank adds those of its share.
        """
        losses, labels = [], self._batch.targets.labels
        known, every = np.flatnonzero(self._positive_at_P >= 0), int(np.count_nonzero(self._whole.positives() >= 0))
        if self._negatives and len(known) and not self._replaced:
            queries_PD = self.queries_PD
            if len(known) < len(queries_PD):
                queries_PD = queries_PD.index_select(0, self._weights.tensor(known))
            losses.append(len(known) / every * self._retrieval_loss(queries_PD, known, train.noise_odds))
        if labels.size and not self._replaced:
            part = len(labels) / len(self._whole.targets.labels)
            losses.append(train.rank_weight * part * self._ranking_loss(self._weights.tensor(labels)))
        if self._negatives and self._cloze is not None and len(self._cloze.hidden):
            losses += self._cloze_losses(self._cloze, every, train.noise_odds)
        return torch.stack(losses).sum() if losses else None

    def _cloze_losses(self, cloze: ClozePass, known: int, noise_odds: float) -> list[Tensor]:
        """Return what is learnt from hidden targets."""
        of_items = cloze.part * self._retrieval_loss(cloze.queries_cD, cloze.hidden, noise_odds)
        of_features = cloze.feature_loss(self.gathered, self._positive_at_P, self._item_at_K, known)
        return [of_items] if of_features is None else [of_items, of_features]

    def _ranking_loss(self, labels_NA: Tensor) -> Tensor:
        """Return the loss of the logits, and what a ranking model adds to it."""
        loss, ranker = ranking_head.loss(self.logits_NA, labels_NA), self._weights.recommender.ranker
        auxiliary = ranker.auxiliary_loss(*self._ranked, labels_NA) if ranker and self._ranked else None
        return loss if auxiliary is None else loss + auxiliary

    def _retrieval_loss(self, queries_nD: Tensor, asked: NDArray[np.intp], noise_odds: float) -> Tensor:
        """Return the mean loss of queries for targets whose item has a row."""
        tokens, targets, at_n = self._batch.tokens, self._batch.targets, self._positive_at_P[asked]
        tensor, leaf, negatives = self._weights.tensor, self.gathered.vectors, self._negatives
        assert negatives is not None
        target_n, negative_n = accidental_hits(at_n, tokens.requests[targets.positive[asked]], self._item_at_K)
        return sampled_softmax(
            queries_nD,
            take_rows(leaf, tensor(at_n)),
            take_rows(leaf, tensor(self._item_at_K)),
            log_q_K=tensor(negatives.log_q(negatives.rows)).to(leaf.dtype),
            hits=(tensor(target_n), tensor(negative_n)),
            temperature=self._weights.recommender.settings.temperature,
            noise=noise_odds / negatives.live,
        )
