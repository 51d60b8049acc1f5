"""GRU4Rec's encoder (Hidasi et al., 2016, arXiv 1511.06939): gated recurrent units over each sequence, jagged.

L tokens, B sequences, D width; layer l turns its input x_t and its own last state h into the next state:

    r, z = sigmoid(W_r x_t + U_r h), sigmoid(W_z x_t + U_z h)
    h = (1 - z) * tanh(W x_t + b + r * (U h + c)) + z * h           the output at t, and the next layer's input

r and z have biases as well. The output at a token is the last layer's state. PyTorch's GRU computes it, on sequences of
like length padded at their ends, which takes half the time of a PackedSequence. Weights are drawn as in the paper's
code, uniform in +-sqrt(6 / (rows + columns)) gate by gate; biases start at 0. What is not as there:

- A token comes in as its embedding, with its place (Recommender), where the paper has one-hot items.
- A state starts from 0 where the example's tokens start, and gradients flow through all of them; the paper's batches go
  on with a state from step to step, and cut gradients there.
- No dropout: one pass serves the test and the loss, and each example is learnt from once.
- The loss is that of every encoder here, a sampled softmax over cosines, where the paper has TOP1 or BPR over the items
  of the batch.

`attention`, `bias` and `heads` of the settings say nothing here.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.attention.tile_plan import checked
from model.config import ModelSettings
from model.network.encoders.padding import Blocks

_ALIKE: Final = 1 / 2  # lengths of a block: the steps of a block cost more than its padding


class Layer(nn.Module):
    """One layer of units."""

    def __init__(self, dim: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, dtype=dtype, device="meta").to_empty(device="cpu")  # draws nothing of its own
        for parameter in self.gru.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.chunk(3):
                    nn.init.xavier_uniform_(gate, generator=generator)

    def forward(self, x_LD: Tensor, batch: "Batch") -> Tensor:
        """Give the states, [L, D]."""
        states = [self.gru(x_bnD.transpose(0, 1))[0].transpose(0, 1) for x_bnD in batch.blocks.pad(x_LD)]
        y_hD = batch.blocks.unpad(states) if states else self._nothing(x_LD)
        if batch.candidates is None:
            return y_hD
        ended_1cD = torch.cat((y_hD, x_LD.new_zeros(1, y_hD.shape[1])))[batch.ends][None]
        y_cD = self.gru(x_LD[batch.candidates][None], ended_1cD)[0][0]
        return torch.cat((y_hD, y_cD))[batch.where]

    def _nothing(self, x_LD: Tensor) -> Tensor:
        """Give no states, [0, D], yet of the graph."""
        return x_LD[:0] @ next(self.gru.parameters())[: x_LD.shape[1]]


class Batch:
    """Where the histories and the candidates of a batch are.

    Args:
        bounds: i64[B+1] of the sequences, the last ones of whose tokens are candidates.
        targets_B: how many.
        device: of the tokens.
    """

    def __init__(self, bounds: NDArray[np.int64], targets_B: NDArray[np.int64], device: torch.device) -> None:
        histories_B = np.diff(bounds) - targets_B
        self.blocks = Blocks(bounds[:-1], histories_B, _ALIKE, device)
        self.candidates = self.ends = self.where = None
        if targets_B.any():
            sequence_L = np.repeat(np.arange(len(targets_B)), np.diff(bounds))
            candidate_L = np.arange(bounds[-1]) >= (bounds[:-1] + histories_B)[sequence_L]
            candidates, histories = np.flatnonzero(candidate_L), np.flatnonzero(~candidate_L)
            owners = sequence_L[candidates]
            ends = np.where(histories_B > 0, np.cumsum(histories_B) - 1, -1)[owners]  # among the histories; -1: none
            where = np.argsort(np.concatenate((histories, candidates)))
            self.candidates, self.ends, self.where = (
                torch.from_numpy(array).to(device) for array in (candidates, ends, where)
            )


class Encoder(nn.Module):
    """The layers of one recommender."""

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList(
            Layer(settings.dim, dtype=dtype, generator=generator) for _ in range(settings.layers)
        )

    def forward(
        self,
        x_LD: Tensor,
        offsets: Tensor,
        ts_ms_L: Tensor,
        num_targets: Tensor | None = None,
        *,
        asked_ms_L: Tensor | None = None,
    ) -> Tensor:
        """Give the output at each token, [L, D]; as hstu.Encoder, whose times are of no use here.

        Each candidate is a step of its own from the state at the end of the history.
        """
        bounds, targets_B = checked(offsets, len(x_LD), num_targets, self.settings.max_len, 0)
        batch = Batch(bounds, targets_B, x_LD.device)
        for layer in self.layers:
            x_LD = layer(x_LD, batch)
        return x_LD
