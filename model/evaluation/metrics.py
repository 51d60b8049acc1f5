"""Prequential metrics: ranks of targets, and additive tallies of which every figure is a ratio.

T = targets, V = rows of the item vocabulary, S = age slices (item_age.py), A = actions with a ranking tower.
A tally holds sums alone, so that tallies of micro-batches add up to those of a window (window.py) and of the whole run.
Figures of which nothing was seen are NaN in arrays and None in as_dict(), which is made for JSON.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.candidates import Questions
from model.data.item_age import SLICES
from model.errors import ModelError

ALL: Final = "all"  # beside the age slices: their sum
_RANK_BLOCK: Final = 1 << 14  # candidates compared at a time: bounds the memory beyond the scores


def ranks(scores_TV: Tensor, questions: Questions) -> NDArray[np.float64]:
    """Give the rank of each target among the candidates, 1 the best, [T]; items of equal score share their mean rank.

    A target that is no candidate is a miss, rank inf; so is one whose score is NaN. Other NaN scores rank last.
    """
    if not scores_TV.numel():
        return np.full(len(questions), np.inf)
    device = scores_TV.device
    own_T1 = scores_TV.gather(1, torch.as_tensor(questions.targets, device=device).clamp(min=0)[:, None])
    request_ms_T1 = torch.as_tensor(questions.request_ms, device=device)[:, None]
    barred_V = ~questions.live | (questions.born_ms >= questions.request_ms.min())  # to some question, or to all
    above_T = torch.zeros(len(scores_TV), dtype=torch.int64, device=device)
    level_T = torch.zeros_like(above_T)  # the target itself among them
    for start in range(0, scores_TV.shape[1], _RANK_BLOCK):
        above, level = _compare(scores_TV[:, start : start + _RANK_BLOCK], own_T1)
        above_T += above
        level_T += level
    for barred in np.array_split(np.flatnonzero(barred_V), 1 + np.count_nonzero(barred_V) // _RANK_BLOCK):
        live_b = torch.as_tensor(questions.live[barred], device=device)
        born_ms_b = torch.as_tensor(questions.born_ms[barred], device=device)
        score_Tb = scores_TV[:, torch.as_tensor(barred, device=device)]
        above, level = _compare(score_Tb, own_T1, ~live_b | (born_ms_b >= request_ms_T1))
        above_T -= above
        level_T -= level
    rank_T = (1 + above_T + (level_T.double() - 1) / 2).masked_fill(own_T1[:, 0].isnan(), torch.inf)
    return np.where(questions.possible, rank_T.cpu().numpy(), np.inf)


def _compare(scores_TV: Tensor, own_T1: Tensor, among_TV: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Count the scores above the own one and those level with it, [T] each."""
    if scores_TV.device.type == "cpu":  # NumPy compares and counts booleans several times faster than PyTorch
        scores, own = scores_TV.numpy(), own_T1.numpy()
        return _count(scores > own, among_TV), _count(scores == own, among_TV)
    among_TV = torch.ones_like(scores_TV, dtype=torch.bool) if among_TV is None else among_TV
    return ((scores_TV > own_T1) & among_TV).sum(1), ((scores_TV == own_T1) & among_TV).sum(1)


def _count(found_TV: NDArray[np.bool_], among_TV: Tensor | None) -> Tensor:
    counted_TV = found_TV if among_TV is None else found_TV & among_TV.numpy()
    return torch.tensor([np.count_nonzero(row) for row in counted_TV], dtype=torch.int64)


class Tally(ABC):
    """Additive sums, by name; two tallies of one kind add up element by element."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    @property
    @abstractmethod
    def targets(self) -> int:
        """Targets counted."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Give the figures for JSON."""

    def add(self, other: Self) -> None:
        """Add the sums of another tally."""
        for name, array in self.arrays.items():
            array += other.arrays[name]

    def with_arrays(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Give a tally of the same kind that holds these arrays."""
        other = copy.copy(self)
        other.arrays = arrays
        return other

    def empty(self) -> Self:
        """Give a tally of the same kind that has counted nothing."""
        return self.with_arrays({name: np.zeros_like(array) for name, array in self.arrays.items()})


class RetrievalTally(Tally):
    """Hit rate, NDCG and MRR by age slice of the target, over the full live catalogue.

    NDCG@10 has one relevant item: 1 / log2(1 + rank) up to rank 10. MRR is not cut off. A rank may end in one half.
    """

    FIGURES: Final = ("hr@10", "hr@50", "ndcg@10", "mrr")

    def __init__(self) -> None:
        super().__init__({"sums": np.zeros((len(SLICES), 1 + len(self.FIGURES)))})  # of 1, then of the figures

    @property
    def targets(self) -> int:
        """Targets counted, misses among them."""
        return int(self.arrays["sums"][:, 0].sum())

    def count(self, rank_T: NDArray[np.float64], slice_T: NDArray[np.intp]) -> None:
        """Count targets of these ranks and age slices."""
        top_T = rank_T <= 10
        figures = (np.ones_like(rank_T), top_T, rank_T <= 50, top_T / np.log2(1 + rank_T), 1 / rank_T)
        np.add.at(self.arrays["sums"], slice_T, np.stack(figures, axis=1))

    def figures(self) -> NDArray[np.float64]:
        """Give the means of FIGURES over each slice and, last, over all targets, [S+1, 4]."""
        sums = _with_all(self.arrays["sums"], axis=0)
        return _ratio(sums[:, 1:], sums[:, :1])

    def as_dict(self) -> dict[str, Any]:
        """Give targets and figures of every slice and of all: {"all": {"targets": 3, "hr@10": 0.5, …}, "unseen": …}."""
        targets = _with_all(self.arrays["sums"][:, 0], axis=0).tolist()
        rows = zip((*SLICES, ALL), targets, self.figures().tolist(), strict=True)
        return {
            name: {"targets": int(count)}
            | {key: _json(value) for key, value in zip(self.FIGURES, figures, strict=True)}
            for name, count, figures in rows
        }


class RankingTally(Tally):
    """Log-loss, normalised entropy, calibration (by age slice) and AUC (of all ages) of every action's tower.

    Normalised entropy is the log-loss over the entropy of the tally's own base rate: below 1 is better than knowing
    that rate. Calibration is the sum of predictions over the sum of labels. AUC comes from a histogram of the logit,
    clipped to [-16, 16), in bins of 1/128; a pair within one bin counts one half, so the AUC is off by at most half
    the share of such pairs among all pairs of one positive and one negative: `auc_error`.
    """

    FIGURES: Final = ("log_loss", "ne", "calibration")
    _LIMIT, _PER_LOGIT = 16, 128
    _BINS: Final = 2 * _LIMIT * _PER_LOGIT

    def __init__(self, actions: Sequence[str]) -> None:
        self.actions = tuple(actions)
        sums = np.zeros((len(self.actions), len(SLICES), 4))  # of 1, label, log-loss, prediction
        super().__init__({"sums": sums, "bins": np.zeros((len(self.actions), 2, self._BINS), np.int64)})

    @property
    def targets(self) -> int:
        """Targets counted; each has a label for every action."""
        return int(self.arrays["sums"][:1, :, 0].sum())

    def count(self, logits_TA: NDArray[np.floating], labels_TA: NDArray[np.bool_], slice_T: NDArray[np.intp]) -> None:
        """Count targets with their logits, labels and age slices.

        Raises:
            ModelError: a logit is NaN or infinite.
        """
        x_TA, y_TA = logits_TA.astype(np.float64), labels_TA.astype(np.int64)
        self._refuse_divergence(x_TA)
        loss_TA = np.logaddexp(0, np.where(y_TA, -x_TA, x_TA))
        probability_TA = np.exp(-np.logaddexp(0, -x_TA))
        values_TA4 = np.stack([np.ones_like(x_TA), y_TA, loss_TA, probability_TA], axis=2)
        action_A = np.arange(len(self.actions))
        np.add.at(self.arrays["sums"], (action_A, slice_T[:, None]), values_TA4)
        bin_TA = np.floor((x_TA + self._LIMIT) * self._PER_LOGIT).clip(0, self._BINS - 1).astype(np.int64)
        np.add.at(self.arrays["bins"], (action_A, y_TA, bin_TA), 1)

    def _refuse_divergence(self, logits_TA: NDArray[np.float64]) -> None:
        bad = np.argwhere(~np.isfinite(logits_TA))
        if len(bad):
            i, a = bad[0]
            raise ModelError(
                f"The logit of action {self.actions[a]!r} for target {i} of the micro-batch is {logits_TA[i, a]}: "
                "training has diverged; lower train.learning_rate and start from an older checkpoint."
            )

    def figures(self) -> NDArray[np.float64]:
        """Give FIGURES of every action, over each slice and, last, over all targets, [A, S+1, 3]."""
        count, positive, loss, prediction = np.moveaxis(_with_all(self.arrays["sums"], axis=1), 2, 0)
        log_loss, rate = _ratio(loss, count), _ratio(positive, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)  # NaN where all labels agree
        return np.stack([log_loss, log_loss / entropy, _ratio(prediction, positive)], axis=2)

    def auc(self) -> NDArray[np.float64]:
        """Give the probability that a positive is scored above a negative, ties half, for every action, [A]."""
        negative, positive = np.moveaxis(self.arrays["bins"], 1, 0).astype(np.float64)  # products may pass 2^63
        below = np.cumsum(negative, axis=1) - negative / 2
        return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))

    def auc_error(self) -> NDArray[np.float64]:
        """Give the bound of the AUC's error, [A]."""
        negative, positive = np.moveaxis(self.arrays["bins"], 1, 0).astype(np.float64)
        return _ratio((positive * negative).sum(1) / 2, positive.sum(1) * negative.sum(1))

    def as_dict(self) -> dict[str, Any]:
        """Give the figures by action: {"click": {"all": {"targets": 3, "positives": 1, …, "auc": 0.7}, "old": …}}."""
        counts = _with_all(self.arrays["sums"], axis=1)[:, :, :2].astype(int).tolist()
        figures, auc = self.figures().tolist(), self.auc().tolist()
        return {
            action: {
                name: {"targets": counts[a][s][0], "positives": counts[a][s][1]}
                | {key: _json(value) for key, value in zip(self.FIGURES, figures[a][s], strict=True)}
                | ({"auc": _json(auc[a])} if name == ALL else {})
                for s, name in enumerate((*SLICES, ALL))
            }
            for a, action in enumerate(self.actions)
        }


def _with_all(sums: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Append the sum over the slices as one more slice."""
    return np.concatenate([sums, sums.sum(axis, keepdims=True)], axis)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, giving NaN where there is nothing below."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    ratio = np.full(shape, np.nan)
    np.divide(above, below, out=ratio, where=np.broadcast_to(below != 0, shape))
    return ratio


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
