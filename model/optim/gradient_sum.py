"""The loss and its gradients over all ranks: each has backpropagated its part of the loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.distributed.ranks import Ranks


def sum_gradients(ranks: Ranks, loss: Tensor | None, dense: Sequence[Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """Replace the gradients of dense parameters by their sums over the ranks, in one all-reduce.

    A parameter that no rank has a gradient of keeps none. Leaves keep their own gradients, which are zeros where this
    rank has none and another rank has a loss.

    Returns the sum of the loss, the number of ranks that have one, and the sum of all gradients' elements, which is
    finite if these are, [3] on the CPU.

    Args:
        ranks: The processes that train together.
        loss: This rank's part of the loss, after its backward(); None: it has none.
        dense: The parameters that all ranks have.
        leaves: This rank's copies of rows.
    """
    found = [parameter.grad for parameter in (*dense, *leaves) if parameter.grad is not None]
    like = dense[0]
    gradient = torch.stack([grad.sum() for grad in found]).abs().sum() if found else like.new_zeros(())
    value = like.new_zeros(()) if loss is None else loss.detach()
    totals = torch.stack((value, like.new_tensor(float(loss is not None)), gradient))
    if ranks.count == 1:
        return totals.cpu()
    there = like.new_tensor([float(parameter.grad is not None) for parameter in dense])
    parts = [_or_zeros(parameter).flatten() for parameter in dense]
    summed = ranks.sum(torch.cat((*parts, there, totals)))
    *parts, there, totals = torch.split(summed, [*map(len, parts), len(dense), len(totals)])
    for parameter, part, has in zip(dense, parts, there.tolist(), strict=True):
        parameter.grad = part.view_as(parameter) if has else None
    for leaf in leaves:
        leaf.grad = _or_zeros(leaf) if totals[1] else None
    return totals.cpu()


def _or_zeros(parameter: Tensor) -> Tensor:
    grad: Tensor | None = parameter.grad
    return torch.zeros_like(parameter) if grad is None else grad
