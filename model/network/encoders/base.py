"""What all encoders share: layers made from the settings, and the arguments of `forward`.

L tokens, B sequences, R tokens whose outputs are read, D width.
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
        read_R: Tensor | None = None,
    ) -> Tensor:
        """Return the output at each token, [L, D].

        Args:
            x_LD: The embedded tokens.
            offsets: Bounds of the sequences, i64[B+1].
            ts_ms_L: Times of the tokens, i64[L].
            num_targets: Number of candidates at the end of each sequence, i64[B], scored in one pass; None for none.
                Each one's output is as if it alone followed the history.
            asked_ms_L: Time from which each row looks back, i64[L]; by default that of `relative_bias.next_ms`.
            read_R: The tokens whose outputs are read, i64[R], each once; the others may have any. None: all are read.
        """
