"""Compares an encoder with loops: outputs and the gradients of all weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def check_against_loops(
    made: nn.Module, by_hand: Callable[[Tensor], Tensor], lengths: Sequence[int], dim: int, *, candidates: bool
) -> None:
    """Assert that both agree, to 1e-10 and 1e-9; with `candidates` the last token of each sequence is a candidate."""
    tokens, dtype = sum(lengths), torch.float64
    x = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(0), dtype=dtype)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    num_targets = torch.ones(len(lengths), dtype=torch.int64) if candidates else None
    cotangent = torch.linspace(-1, 1, tokens * dim, dtype=dtype).view(tokens, dim)
    outputs = (
        made(x, offsets, torch.arange(tokens), num_targets),
        torch.cat([by_hand(part) for part in x.split(list(lengths))]),
    )
    gradients = [torch.autograd.grad((out * cotangent).sum(), list(made.parameters())) for out in outputs]
    assert torch.allclose(*outputs, rtol=1e-10, atol=1e-10)
    for ours, naive in zip(*gradients, strict=True):
        assert torch.allclose(ours, naive, rtol=1e-9, atol=1e-9)
