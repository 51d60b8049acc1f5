"""What all encoders share: layers made from the settings, and the arguments of `forward`.

L tokens, B sequences, D width.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from model.config import ModelSettings


class JaggedEncoder(nn.Module, ABC):
    """Layers over jagged sequences, all weights drawn from the generator."""

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList(self.make_layer(dtype, generator) for _ in range(settings.layers))

    @abstractmethod
    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
        """Return a new layer of the shape that the settings name."""

    @abstractmethod
    def forward(
        self,
        x_LD: Tensor,
        offsets: Tensor,
        ts_ms_L: Tensor,
        num_targets: Tensor | None = None,
        *,
        asked_ms_L: Tensor | None = None,
    ) -> Tensor:
        """Return the output at each token, [L, D].

        Args:
            x_LD: The embedded tokens.
            offsets: i64[B+1] bounds of the sequences.
            ts_ms_L: i64[L] times of the tokens.
            num_targets: i64[B] candidates at the end of each sequence, scored in one pass; None for none. Each one's
                output is as if it alone followed the history.
            asked_ms_L: i64[L] time from which each row looks back; by default that of `relative_bias.next_ms`.
        """
