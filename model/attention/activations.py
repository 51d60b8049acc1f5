"""Attention activations: how scores become the weights of the values, pointwise (SiLU, the paper's) or by a softmax.

To add one, write its class here, put it into ACTIVATIONS, and its name into `Activation` of model/config.py. It then
runs in plain PyTorch on every device, and the tests compare it with its own `row_weights`. Kernels are optional: those
of the CPU have code for the names in cpu/dispatch.py, those of CUDA for the names in triton/batch.py.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import torch
from torch import Tensor
from torch.nn.functional import silu

from model.attention.tile_plan import Tile, TilePlan
from model.errors import ModelError


class Activation(ABC):
    """Weights from scores. One object prepares its masks for a planned batch and is used by all layers.

    r rows, k keys of a tile (tile_plan.py).
    """

    scaled: ClassVar[bool]  # HSTU divides the products q·k by sqrt(d_qk)

    @abstractmethod
    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None: ...

    @staticmethod
    @abstractmethod
    def row_weights(scores: Tensor, max_len: int) -> Tensor:
        """Return the weights of one row from the scores of the keys that it sees, [..., k]: the definition."""

    @abstractmethod
    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Return the weights of a tile, [..., r, k], zero where a row does not see a key."""


class Silu(Activation):
    """silu(score) / max_len: every key is weighed by itself, and the weights of a row do not sum to one."""

    scaled = False

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._factors = [tile.visible.to(dtype) / plan.max_len for tile in plan.tiles]

    @staticmethod
    def row_weights(scores: Tensor, max_len: int) -> Tensor:
        """Return silu(scores) / max_len."""
        return silu(scores) / max_len

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Return silu(scores) / max_len, masked."""
        return silu(scores).mul_(self._factors[tile.number])


class SiluSeen(Activation):
    """silu(score) / number of keys that the row sees: a long max_len does not weaken short histories.

    The length of the whole sequence would tell a row how much is still to come; what it sees is the length so far.
    """

    scaled = False

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._factors = [tile.visible.to(dtype) / tile.visible.sum(-1, keepdim=True) for tile in plan.tiles]

    @staticmethod
    def row_weights(scores: Tensor, max_len: int) -> Tensor:
        """Return silu(scores) / number of keys."""
        return silu(scores) / scores.shape[-1]

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Return silu(scores) / number of keys seen, masked."""
        return silu(scores).mul_(self._factors[tile.number])


class Softmax(Activation):
    """softmax over the keys that a row sees, masked before it: hidden keys have no influence on the weights."""

    scaled = True

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._terms = [_minus_infinity(~tile.visible, dtype) for tile in plan.tiles]

    @staticmethod
    def row_weights(scores: Tensor, max_len: int) -> Tensor:
        """Return the softmax of the scores."""
        return torch.softmax(scores, -1)

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        """Return the softmax of the scores seen."""
        return torch.softmax(scores + self._terms[tile.number], -1)


ACTIVATIONS: Final[dict[str, type[Activation]]] = {"silu": Silu, "silu_seen": SiluSeen, "softmax": Softmax}


def activation_named(name: str) -> type[Activation]:
    """Return the activation of a name.

    Raises:
        ModelError: There is no activation of that name.
    """
    if name not in ACTIVATIONS:
        raise ModelError(f"There is no attention activation {name!r}; known are {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


def _minus_infinity(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
