"""What every ranking model is: a logit per candidate and action, from the candidate and the history before its request.

R requests, K behaviours, N candidates, D width, A actions. A model is a file with a class Ranker in a package of its
kind (model/network/rankers.py lists them), and its name in EncoderName (model/config.py). tests/model/test_laws.py and
tests/model/network/test_every_ranker.py then apply to it.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from model.config import ModelSettings
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights


class RankingModel(nn.Module, ABC):
    """A ranking model of the width and the actions of the settings, all weights drawn from the generator."""

    behaviours: ClassVar[int] = 50
    """The most behaviours of a history, the last ones; 0: all that an example has."""

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.dim: Final = settings.dim
        self.heads: Final = settings.heads
        self.actions: Final = len(settings.rank_actions)
        self.build(Weights(dtype, generator))

    @abstractmethod
    def build(self, weights: Weights) -> None:
        """Draw the weights."""

    @abstractmethod
    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""

    def auxiliary_loss(self, history: Histories, candidates: Candidates, labels_NA: Tensor) -> Tensor | None:
        """Return the model's loss beside the one of its logits, a scalar; None if it has none.

        Args:
            history: As for `forward`.
            candidates: As for `forward`.
            labels_NA: Whether the user acted so on the candidate, bool.
        """
        return None
