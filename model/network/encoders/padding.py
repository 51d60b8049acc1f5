"""Jagged sequences as a few padded blocks, for kernels that need [b, n]; each sequence begins at a row's first place.

L tokens of the batch, B sequences, b sequences of a block, n tokens of its longest, E width. The padding after a
sequence repeats its last token. No real token of a causal encoder sees it; others leave it out by `real`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Blocks:
    """The blocks of one batch.

    Args:
        starts_B: The first token of each sequence.
        lengths_B: The number of its tokens, which may be 0.
        alike: The least length of a sequence, as a share of the longest of its block.
        device: The device of the tokens.
    """

    def __init__(
        self, starts_B: NDArray[np.int64], lengths_B: NDArray[np.int64], alike: float, device: torch.device
    ) -> None:
        order = np.argsort(-lengths_B, kind="stable")
        padded, where = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self.shapes: list[tuple[int, int]] = []
        self.real: list[Tensor | None] = []  # which tokens of each block are no padding, [b, n]; None: all
        for sequences in _blocks_of(order[: np.count_nonzero(lengths_B)], lengths_B, alike):
            length_b1, index_n = lengths_B[sequences][:, None], np.arange(lengths_B[sequences[0]])
            tokens_bn = starts_B[sequences][:, None] + np.minimum(index_n, length_b1 - 1)
            real_bn = index_n < length_b1
            self.real.append(None if real_bn.all() else torch.from_numpy(real_bn).to(device))
            where.append(np.flatnonzero(real_bn) + sum(map(len, padded)))
            padded.append(tokens_bn.ravel())
            self.shapes.append(tokens_bn.shape)
        places, real = np.concatenate(padded), np.concatenate(where)
        tokens = places[real]
        self.in_place = np.array_equal(places, np.arange(len(places)))  # the batch itself is its only block
        self._padded = torch.from_numpy(places).to(device)
        self._where = torch.from_numpy(real[np.argsort(tokens)]).to(device)

    def pad(self, x_LE: Tensor) -> list[Tensor]:
        """Return the blocks, [b, n, E] each."""
        x = x_LE[: len(self._padded)] if self.in_place else x_LE.index_select(0, self._padded)
        parts = x.split_with_sizes([b * n for b, n in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def unpad(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return the real tokens of the blocks in the order of the batch; [L, E] if all of it is in blocks."""
        x = torch.cat([block.flatten(0, 1) for block in blocks])
        return x if self.in_place else x.index_select(0, self._where)


def _blocks_of(order: NDArray[np.int64], lengths_B: NDArray[np.int64], alike: float) -> list[NDArray[np.int64]]:
    """Divide sequences, longest first, into blocks; one that is too short for a block begins the next."""
    blocks, start = [], 0
    for i, sequence in enumerate(order):
        if lengths_B[sequence] < alike * lengths_B[order[start]]:
            blocks.append(order[start:i])
            start = i
    return [*blocks, order[start:]] if len(order) else []
