"""Ranks of targets among the candidates of their questions.

T = targets, V = rows of the item vocabulary, b = candidates of one block.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.jit import compiled
from model.data.candidates import Questions

_RANK_BLOCK: Final = 1 << 14  # candidates compared at a time: bounds the memory beyond the scores


def ranks(scores_TV: Tensor, questions: Questions) -> NDArray[np.float64]:
    """Return the rank of each target among its candidates, 1 the best, [T]; items of equal score share their mean rank.

    A target that is not a candidate is a miss, with rank inf; so is one whose score is NaN. Other NaN scores rank last.
    """
    if not scores_TV.numel():
        return np.full(len(questions), np.inf)
    device = scores_TV.device
    own_T1 = scores_TV.gather(1, torch.as_tensor(questions.targets, device=device).clamp(min=0)[:, None])
    request_ms_T1 = torch.as_tensor(questions.request_ms, device=device)[:, None]
    barred_V = ~questions.live | (
        questions.born_ms >= questions.request_ms.min()
    )  # no candidate of some question, or of any
    higher_T = torch.zeros(len(scores_TV), dtype=torch.int64, device=device)
    equal_T = torch.zeros_like(higher_T)  # the target itself among them
    for start in range(0, scores_TV.shape[1], _RANK_BLOCK):
        higher, equal = _compare(scores_TV[:, start : start + _RANK_BLOCK], own_T1)
        higher_T += higher
        equal_T += equal
    for barred in np.array_split(np.flatnonzero(barred_V), 1 + np.count_nonzero(barred_V) // _RANK_BLOCK):
        live_b = torch.as_tensor(questions.live[barred], device=device)
        born_ms_b = torch.as_tensor(questions.born_ms[barred], device=device)
        score_Tb = scores_TV[:, torch.as_tensor(barred, device=device)]
        higher, equal = _compare(score_Tb, own_T1, ~live_b | (born_ms_b >= request_ms_T1))
        higher_T -= higher
        equal_T -= equal
    return questions.ranks(higher_T.cpu().numpy(), equal_T.cpu().numpy(), ~own_T1[:, 0].isnan().cpu().numpy())


def _compare(scores_TV: Tensor, own_T1: Tensor, among_TV: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Count the scores above the target's own and those equal to it, [T] each."""
    if scores_TV.device.type == "cpu" and among_TV is None:
        higher_T, equal_T = _above_and_equal(scores_TV.numpy(), own_T1.numpy()[:, 0])
        return torch.from_numpy(higher_T), torch.from_numpy(equal_T)
    among_TV = torch.ones_like(scores_TV, dtype=torch.bool) if among_TV is None else among_TV
    return ((scores_TV > own_T1) & among_TV).sum(1), ((scores_TV == own_T1) & among_TV).sum(1)


@compiled
def _above_and_equal(
    scores_TV: NDArray[np.floating], own_T: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    higher_T, equal_T = np.zeros(len(own_T), np.int64), np.zeros(len(own_T), np.int64)
    for t in range(len(own_T)):
        own, higher, equal = own_T[t], 0, 0
        for v in range(scores_TV.shape[1]):
            higher += scores_TV[t, v] > own
            equal += scores_TV[t, v] == own
        higher_T[t], equal_T[t] = higher, equal
    return higher_T, equal_T
