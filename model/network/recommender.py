"""The dense part of a recommender: from a batch's embedded tokens to queries and logits.

The logits are of towers on an encoder's output, or of a model that only ranks (rankers.py) and has no encoder.

L tokens, B sequences, T targets, A rank actions, D width. Rows of items and features live in tables
(optim/embedding_table.py) and come in as tensors; all other weights are in `state_dict`, in float32, drawn from the
seed alone. Losses: retrieval_loss.py and ranking_head.py.

What a row may know of time: an ACTION or ATTRIBUTE token looks back from the next token's time, which is the time of
the request if a query is asked there. An IMPRESSION token looks back from its own time: there the shown item is ranked,
and the next token may be the reaction that is to be predicted.
"""

import math

import torch
from torch import Tensor, nn

from model.arrays.take_rows import take_rows
from model.attention.masks import row_places
from model.attention.relative_bias import next_ms
from model.config import ModelSettings
from model.network.encoders import ENCODERS
from model.network.rankers import RANKERS, Unencoded
from model.network.ranking_head import Towers
from model.network.recency_means import RecencyMeans
from model.network.retrieval_loss import unit
from stream.example import Kind


class Recommender(nn.Module):
    """The encoder or the ranking model that the settings name, embeddings of kinds and places, and the two heads."""

    def __init__(self, settings: ModelSettings, *, seed: int) -> None:
        super().__init__()
        self.settings = settings
        generator, dtype = torch.Generator().manual_seed(seed), torch.float32
        self.kind_emb = nn.Parameter(torch.empty(len(Kind), settings.dim, dtype=dtype))
        self.pos_emb = nn.Parameter(torch.empty(settings.max_len, settings.dim, dtype=dtype))
        self.start = nn.Parameter(torch.empty(settings.dim, dtype=dtype))
        nn.init.normal_(self.kind_emb, 0.0, 0.02, generator=generator)
        for embedding in (self.pos_emb, self.start):
            nn.init.normal_(embedding, 0.0, settings.dim**-0.5, generator=generator)
        encoder, ranker = ENCODERS.get(settings.encoder, Unencoded), RANKERS.get(settings.encoder)
        self.encoder = encoder(settings, dtype=dtype, generator=generator)
        self.ranker = ranker(settings, dtype=dtype, generator=generator) if ranker else None
        towers = (
            Towers(settings.dim, len(settings.rank_actions), dtype=dtype, generator=generator) if not ranker else None
        )
        self.towers = towers
        decays = settings.recency_decays
        self.recency = RecencyMeans(settings.dim, decays, dtype=dtype) if decays else None

    def encode(
        self,
        content_LD: Tensor,
        action_LD: Tensor,
        kinds_L: Tensor,
        ts_ms_L: Tensor,
        offsets: Tensor,
        num_targets: Tensor | None = None,
        *,
        request_ms: Tensor | None = None,
        read_R: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's output at each token, [L, D].

        Args:
            content_LD: Rows of the item table (IMPRESSION, ACTION) or of the feature table (ATTRIBUTE).
            action_LD: Rows of the feature table for the action, zeros where there is none.
            kinds_L: Values of stream.example.Kind, any integer dtype.
            ts_ms_L: Event times, i64.
            offsets: Bounds of the sequences, i64[B+1].
            num_targets: Number of candidates at the end of each sequence, i64[B], which are IMPRESSION tokens at the
                time of the request; the output of each is as if it alone followed the history.
            request_ms: Time of the request that is answered after the last token, i64[B]; by default that token's time.
            read_R: The tokens whose outputs are read, i64[R], each once; None: all.
        """
        places_L, _ = row_places(offsets, len(content_LD), num_targets)
        kinds_L = kinds_L.to(torch.int64)
        asked_ms_L = next_ms(ts_ms_L, offsets, num_targets=num_targets, request_ms=request_ms)
        asked_ms_L = torch.where(kinds_L == Kind.IMPRESSION, ts_ms_L, asked_ms_L)
        x_LD = self.embed(content_LD, action_LD, kinds_L, places_L)
        y_LD: Tensor = self.encoder(x_LD, offsets, ts_ms_L, num_targets, asked_ms_L=asked_ms_L, read_R=read_R)
        return y_LD

    def embed(self, content_LD: Tensor, action_LD: Tensor, kinds_L: Tensor, places_L: Tensor) -> Tensor:
        """Return the encoder's input, [L, D]; the arguments are those of `encode`, and the tokens' places."""
        tokens_LD = content_LD + action_LD + take_rows(self.kind_emb, kinds_L)
        return tokens_LD * math.sqrt(self.settings.dim) + take_rows(self.pos_emb, places_L)

    def queries(self, y_LD: Tensor, query_T: Tensor, content_LD: Tensor, kinds_L: Tensor, offsets: Tensor) -> Tensor:
        """Return the unit query vectors, [T, D], at tokens `query_T`; -1 (no history) takes the start vector.

        Args:
            y_LD: The encoder's output.
            query_T: Tokens at which a query is asked.
            content_LD: As for `encode`, as are the others.
        """
        y_TD = take_rows(torch.cat((self.start[None], y_LD)), query_T + 1)
        return self.with_recency(y_TD, query_T, content_LD, kinds_L, offsets)

    def with_recency(
        self, y_TD: Tensor, query_T: Tensor, content_LD: Tensor, kinds_L: Tensor, offsets: Tensor
    ) -> Tensor:
        """Return the unit query vectors, [T, D], of the encoder's outputs at tokens `query_T`; see `queries`."""
        if self.recency is not None:
            y_TD = y_TD + self.recency(content_LD, kinds_L, offsets, query_T)
        return unit(y_TD)

    def rank_logits(self, y_TD: Tensor, query_TD: Tensor, rows_TD: Tensor) -> Tensor:
        """Return a logit per target and rank action, [T, A].

        Args:
            y_TD: The encoder's output at the targets' tokens.
            query_TD: The queries of their users, of unit length; no gradient flows back into them.
            rows_TD: Rows of the item table; nor into these.
        """
        assert self.towers is not None
        logits_TA: Tensor = self.towers(y_TD, query_TD.detach(), unit(rows_TD.detach()))
        return logits_TA
