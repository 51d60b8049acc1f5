"""GRU4Rec's encoder (Hidasi et al., 2016, arXiv 1511.06939): gated recurrent units over each sequence, jagged.

L tokens, B sequences, D width; layer l turns its input x_t and its own last state h into the next state:

    r, z = sigmoid(W_r x_t + U_r h), sigmoid(W_z x_t + U_z h)
    h = (1 - z) * tanh(W x_t + b + r * (U h + c)) + z * h           the output at t, and the next layer's input

r and z have biases as well. The output at a token is the last layer's state. PyTorch's GRU computes it, on sequences of
like length padded at their ends, which takes half the time of a PackedSequence. Weights are drawn as in the paper's
code, uniform in +-sqrt(6 / (rows + columns)) gate by gate; biases start at 0. Differences from the paper:

- A token is its embedding, with its place (recommender.py); the paper has one-hot items.
- A state starts from 0 at the example's first token, and gradients flow through all tokens. The paper's batches carry
  a state from step to step and stop gradients there.
- No dropout in the layers: one pass serves the test and the loss. Only replayed examples have some, around the encoder.
- The loss is that of every encoder here, a sampled softmax over cosines; the paper has TOP1 or BPR over the items of
  the batch.

The settings `attention`, `bias` and `heads` have no effect.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.attention.tile_plan import checked
from model.network.encoders.base import JaggedEncoder
from model.network.encoders.padding import Blocks

_ALIKE: Final = 1 / 2  # shortest / longest of a block: the steps of a block cost more than its padding


class Layer(nn.Module):
    """One layer of gated units."""

    def __init__(self, dim: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, dtype=dtype, device="meta").to_empty(device="cpu")  # draws no random numbers
        for parameter in self.gru.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.chunk(3):
                    nn.init.xavier_uniform_(gate, generator=generator)

    def forward(self, x_LD: Tensor, batch: "BatchSplit") -> Tensor:
        """Return the states, [L, D]."""
        states = [self.gru(x_bnD.transpose(0, 1))[0].transpose(0, 1) for x_bnD in batch.blocks.pad(x_LD)]
        y_hD = batch.blocks.unpad(states) if states else self._nothing(x_LD)
        if batch.candidates is None:
            return y_hD
        ended_1cD = torch.cat((y_hD, x_LD.new_zeros(1, y_hD.shape[1])))[batch.ends][None]
        y_cD = self.gru(x_LD[batch.candidates][None], ended_1cD)[0][0]
        return torch.cat((y_hD, y_cD))[batch.where]

    def _nothing(self, x_LD: Tensor) -> Tensor:
        """Return no states, [0, D], but part of the graph."""
        return x_LD[:0] @ next(self.gru.parameters())[: x_LD.shape[1]]


class BatchSplit:
    """A batch split into histories, in padded blocks, and candidates.

    Args:
        bounds: Where the sequences begin and end, i64[B+1]; a sequence's last tokens are its candidates.
        targets_B: The number of candidates of each sequence.
        device: The device of the tokens.
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


class Encoder(JaggedEncoder):
    """The layers of one recommender."""

    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> Layer:
        """Return a new layer."""
        return Layer(self.settings.dim, dtype=dtype, generator=generator)

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
        """Return the output at each token, [L, D]; times have no effect.

        Each candidate is one step from the state at the end of the history.
        """
        bounds, targets_B = checked(offsets, len(x_LD), num_targets, self.settings.max_len, 0)
        batch = BatchSplit(bounds, targets_B, x_LD.device)
        for layer in self.layers:
            x_LD = layer(x_LD, batch)
        return x_LD
