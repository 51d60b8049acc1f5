"""From scores to weights: what makes an attention pointwise (SiLU, the paper's) or a softmax.

An activation prepares its masks once for a planned batch and then serves all layers.
r rows, k keys of a tile (tile_plan.py).
"""

from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import silu

from model.attention.tile_plan import Tile, TilePlan
from model.errors import ModelError


class Activation(Protocol):
    """Weights of the scores of one tile, [..., r, k]."""

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None: ...

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Give the weights of the values, zero where a row does not see a key."""
        ...


class Silu:
    """silu(score) / max_len where a row sees a key: every key is weighed by itself, and nothing sums to one."""

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._factors = [tile.visible.to(dtype) / plan.max_len for tile in plan.tiles]

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Give silu(scores) / max_len, masked."""
        return silu(scores).mul_(self._factors[tile.number])


class SiluSeen:
    """silu(score) / number of keys that the row sees, so that short histories are not weighed down by a long max_len.

    The length of the whole sequence would tell a row how much is still to come; what it sees is the length so far.
    """

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._factors = [tile.visible.to(dtype) / tile.visible.sum(-1, keepdim=True) for tile in plan.tiles]

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Give silu(scores) / keys seen, masked."""
        return silu(scores).mul_(self._factors[tile.number])


class Softmax:
    """softmax over the keys that a row sees, masked before it: weights sum to one and owe nothing to hidden keys."""

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._terms = [_minus_infinity(~tile.visible, dtype) for tile in plan.tiles]

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Give the softmax of the scores seen."""
        return torch.softmax(scores + self._terms[tile.number], -1)


ACTIVATIONS: Final[dict[str, type[Activation]]] = {"silu": Silu, "silu_seen": SiluSeen, "softmax": Softmax}


def activation_named(name: str) -> type[Activation]:
    """Give the activation of a name.

    Raises:
        ModelError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ModelError(f"There is no attention activation {name!r}; known are {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


def _minus_infinity(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
