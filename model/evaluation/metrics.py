"""Metrics of prequential evaluation: the list of retrieval metrics, and additive tallies from which they are computed.

A new retrieval metric is one entry of METRICS; every table, Prometheus, the columns of `hstu compare` and its report
read that list. (The oracle of the paper's stream has its own: `HITS` in sim/dirichlet/oracle_ranking.py.)

T = targets, S = age slices (item_age.py), A = actions with a ranking tower. A tally holds sums only, so the tallies of
micro-batches add up to those of a window (window.py) and of the whole run. A figure without targets is NaN in arrays
and None in as_dict(), which is made for JSON.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from model.data.item_age import SLICES
from model.errors import DivergedError

ALL: Final = "all"  # beside the age slices: their sum
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalMetric:
    """A mean over targets of a function of their ranks. Ranks: 1 the best, may end in .5, inf for a miss."""

    key: str
    """Its name in JSON (metrics.jsonl, snapshots): "hr@10"."""
    title: str
    """Its name in tables: "HR@10"."""
    of_rank: Callable[[Floats], Floats]
    """Ranks [T] to what each target adds to the mean, [T]."""
    gauge: str
    """Prometheus: hstu_<gauge>; metrics of one gauge differ in its label k."""
    help: str
    k: int | None = None
    brief: bool = False
    """Whether tables with room for two figures show it."""

    @property
    def column(self) -> str:
        """Its name in runs.parquet and curves.parquet: "hr10"."""
        return self.key.replace("@", "")


def hit_rate(k: int, *, brief: bool = False) -> RetrievalMetric:
    """Return the share of targets among the first k."""

    def of_rank(rank_T: Floats) -> Floats:
        return (rank_T <= k).astype(np.float64)

    return RetrievalMetric(f"hr@{k}", f"HR@{k}", of_rank, "hr", "Hit rate.", k, brief)


def ndcg(k: int) -> RetrievalMetric:
    """Return NDCG with one relevant item: 1 / log2(1 + rank) up to rank k, else 0."""

    def of_rank(rank_T: Floats) -> Floats:
        return (rank_T <= k) / np.log2(1 + rank_T)

    return RetrievalMetric(f"ndcg@{k}", f"NDCG@{k}", of_rank, "ndcg", "Normalised discounted cumulative gain.", k)


HEADLINE: Final = hit_rate(10, brief=True)
"""The metric of plots, gaps and tables by age."""
METRICS: Final = (
    HEADLINE,
    hit_rate(50, brief=True),
    ndcg(10),
    RetrievalMetric("mrr", "MRR", lambda rank_T: 1 / rank_T, "mrr", "Mean reciprocal rank."),  # of all ranks
)


class Tally(ABC):
    """Additive sums, by name; two tallies of one kind add up element by element."""

    mismatch: ClassVar[str]
    """What to do where a checkpoint's sums have another shape, as a part of the error."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    @property
    @abstractmethod
    def targets(self) -> int:
        """Targets counted."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""

    def add(self, other: Self) -> None:
        """Add the sums of another tally."""
        for name, array in self.arrays.items():
            array += other.arrays[name]

    def with_arrays(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Return a tally of the same kind that holds these arrays."""
        other = copy.copy(self)
        other.arrays = arrays
        return other

    def empty(self) -> Self:
        """Return a tally of the same kind that has counted nothing."""
        return self.with_arrays({name: np.zeros_like(array) for name, array in self.arrays.items()})


class RetrievalTally(Tally):
    """METRICS by age slice of the target, over the full live catalogue."""

    mismatch = "they count other metrics than this version: resume with the version that wrote them"

    def __init__(self) -> None:
        super().__init__({"sums": np.zeros((len(SLICES), 1 + len(METRICS)))})  # of 1, then of METRICS

    @property
    def targets(self) -> int:
        """Targets counted, misses included."""
        return int(self.arrays["sums"][:, 0].sum())

    def count(self, rank_T: NDArray[np.float64], slice_T: NDArray[np.intp]) -> None:
        """Count targets of these ranks and age slices.

        Raises:
            DivergedError: A rank is NaN or less than 1, so that metrics would flatter.
        """
        if not (rank_T >= 1).all():
            raise DivergedError("A rank is no number from 1 on, so scores are not finite; the metrics are not counted.")
        figures = (np.ones_like(rank_T), *(metric.of_rank(rank_T) for metric in METRICS))
        np.add.at(self.arrays["sums"], slice_T, np.stack(figures, axis=1))

    def figures(self) -> NDArray[np.float64]:
        """Return the means of METRICS over each slice and, last, over all targets, [S+1, metrics]."""
        sums = _with_all(self.arrays["sums"], axis=0)
        return _ratio(sums[:, 1:], sums[:, :1])

    def as_dict(self) -> dict[str, Any]:
        """Return targets and means of every slice and of all: {"all": {"targets": 3, "hr@10": 0.5, …}, "unseen": …}."""
        targets = _with_all(self.arrays["sums"][:, 0], axis=0).tolist()
        rows = zip((*SLICES, ALL), targets, self.figures().tolist(), strict=True)
        return {
            name: {"targets": int(count)}
            | {metric.key: _json(value) for metric, value in zip(METRICS, figures, strict=True)}
            for name, count, figures in rows
        }


class RankingTally(Tally):
    """Log-loss, normalised entropy, calibration (by age slice) and AUC (of all ages) of every action's tower.

    Normalised entropy is the log-loss over the entropy of the tally's own base rate: below 1 is better than knowing
    that rate. Calibration is the sum of predictions over the sum of labels. AUC comes from a histogram of the logit,
    clipped to [-16, 16), in bins of 1/128. A pair of a positive and a negative within one bin counts one half, so the
    AUC is off by at most half the share of such pairs.
    """

    FIGURES: Final = ("log_loss", "ne", "calibration")
    mismatch = "keep model.rank_actions as it was"
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
            DivergedError: A logit is NaN or infinite.
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
            raise DivergedError(
                f"The logit of action {self.actions[a]!r} for target {i} of the micro-batch is {logits_TA[i, a]}: "
                "training has diverged; lower train.learning_rate."
            )

    def figures(self) -> NDArray[np.float64]:
        """Return FIGURES of every action, over each slice and, last, over all targets, [A, S+1, 3]."""
        count, positive, loss, prediction = np.moveaxis(_with_all(self.arrays["sums"], axis=1), 2, 0)
        log_loss, rate = _ratio(loss, count), _ratio(positive, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)  # NaN where all labels agree
        return np.stack([log_loss, log_loss / entropy, _ratio(prediction, positive)], axis=2)

    def auc(self) -> NDArray[np.float64]:
        """Return the probability that a positive is scored above a negative, ties half, for every action, [A]."""
        negative, positive = np.moveaxis(self.arrays["bins"], 1, 0).astype(np.float64)  # products may pass 2^63
        below = np.cumsum(negative, axis=1) - negative / 2
        return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by action: {"click": {"all": {"targets": 3, "positives": 1, …, "auc": 0.7}, "old": …}}."""
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
    """Return the ratio, NaN where the divisor is 0."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    ratio = np.full(shape, np.nan)
    np.divide(above, below, out=ratio, where=np.broadcast_to(below != 0, shape))
    return ratio


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
