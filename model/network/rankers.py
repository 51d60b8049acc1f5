"""Ranking models by their names: a file's name in `model.encoder`, its class Ranker (ranking/base.py).

They are not encoders: `Recommender` has no encoder then, retrieval queries are the last token's embedding and the
recency means, and clicks are predicted from a candidate's row and the behaviours before its request.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import torch
from torch import Tensor, nn

from model.network import factors, gates, interest, long_history
from model.network.encoders.base import JaggedEncoder
from model.network.ranking.base import RankingModel


class Unencoded(JaggedEncoder):
    """In place of an encoder, where a model only ranks: a token's output is its embedding."""

    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
        """Return a layer without weights."""
        return nn.Identity()

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
        """Return the embedded tokens, [L, D]."""
        return x_LD


def _found() -> Iterator[tuple[str, type[RankingModel]]]:
    for kind in (interest, long_history, gates, factors):
        for file in iter_modules(kind.__path__):
            ranker = getattr(import_module(f"{kind.__name__}.{file.name}"), "Ranker", None)
            if ranker is not None:
                yield file.name, ranker


RANKERS: Final[dict[str, type[RankingModel]]] = dict(_found())
