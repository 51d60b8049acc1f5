"""Click probabilities of one run: log-loss, normalised entropy, calibration, AUC and GAUC of each action.

n = impressions tested so far, A = actions. AUC needs all logits, so all are kept: some 20 bytes an impression.

    log_loss      mean of -log p of what happened
    ne            normalised entropy: log_loss over that of the best constant, which knows the base rate of the same
                  impressions; below 1 is better than the constant
    calibration   sum of the predictions over the sum of the labels
    auc           probability that a positive has a higher logit than a negative; ties half
    gauc          the same within a user, a mean over users who have both, weighted by their impressions (Zhou et al.,
                  2018, arXiv 1706.06978)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from model.data.item_age import SLICES
from model.evaluation.metrics import ALL

FIGURES: Final = ("log_loss", "ne", "calibration", "auc", "gauc")
PARTS: Final = ("all", "late")
_COLUMNS: Final = ("logits", "labels", "slices", "users", "buckets")


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """The click probabilities of one micro-batch."""

    logits: NDArray[np.float64]  # [N, A]
    labels: NDArray[np.bool_]  # [N, A]
    slices: NDArray[np.intp]  # [N] age of the item, index into item_age.SLICES
    users: NDArray[np.uint64]  # [N]


class ClickTallies:
    """Keeps the impressions of a run.

    Args:
        actions: The actions that are predicted.
        late: The first hundredth of the stream's last part.
    """

    def __init__(self, actions: Sequence[str], late: int) -> None:
        self._actions, self._late = actions, late
        self._kept: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}

    def count(self, bucket: int, clicks: Clicks) -> None:
        """Keep the impressions of a micro-batch in this hundredth of the stream."""
        columns = clicks.logits, clicks.labels, clicks.slices, clicks.users, np.full(len(clicks.users), bucket)
        for name, column in zip(_COLUMNS, columns, strict=True):
            self._kept[name].append(column)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of clicks.parquet: of the stream and of its last part, of each action that occurs, by age."""
        state = self.state()
        if not state:
            return []
        rows = []
        for part, in_part in zip(PARTS, (state["buckets"] >= 0, state["buckets"] >= self._late), strict=True):
            for a, action in enumerate(self._actions):
                for age in (ALL, *SLICES):
                    at = in_part if age == ALL else in_part & (state["slices"] == SLICES.index(age))
                    label = state["labels"][at, a]
                    if label.any():
                        found = figures(state["logits"][at, a], label, state["users"][at])
                        counts = {"targets": len(label), "positives": int(label.sum())}
                        rows.append({"part": part, "action": action, "age": age} | counts | found)
        return rows

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all impressions, for a checkpoint; nothing if there are none."""
        return {name: np.concatenate(parts) for name, parts in self._kept.items() if parts}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the impressions of a checkpoint."""
        self._kept = {name: [np.array(state[name])] if name in state else [] for name in _COLUMNS}


def figures(logit_n: NDArray[np.float64], label_n: NDArray[np.bool_], user_n: NDArray[np.uint64]) -> dict[str, float]:
    """Return FIGURES; NaN where all labels agree, or no user has both."""
    log_loss = float(np.logaddexp(0, np.where(label_n, -logit_n, logit_n)).mean())
    entropy = constant_log_loss(int(label_n.sum()), len(label_n))
    predicted = float(np.exp(-np.logaddexp(0, -logit_n)).sum())
    ne = log_loss / entropy if entropy else np.nan
    values = log_loss, ne, predicted / int(label_n.sum()), _auc(logit_n, label_n), _gauc(logit_n, label_n, user_n)
    return dict(zip(FIGURES, values, strict=True))


def constant_log_loss(positives: int, targets: int) -> float:
    """Return the log-loss of the constant that knows the base rate."""
    rates = np.array([positives, targets - positives]) / targets
    return -float((rates * np.log(rates, where=rates > 0, out=np.zeros(2))).sum())


def _auc(logit_n: NDArray[np.float64], label_n: NDArray[np.bool_]) -> float:
    positives = int(label_n.sum())
    negatives = len(label_n) - positives
    if not positives or not negatives:
        return np.nan
    above = float(rankdata(logit_n)[label_n].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def _gauc(logit_n: NDArray[np.float64], label_n: NDArray[np.bool_], user_n: NDArray[np.uint64]) -> float:
    order = np.argsort(user_n, kind="stable")
    starts = np.flatnonzero(np.diff(user_n[order])) + 1
    total = weight = 0.0
    for own in np.split(order, starts):
        auc = _auc(logit_n[own], label_n[own])
        if not np.isnan(auc):
            total, weight = total + len(own) * auc, weight + len(own)
    return total / weight if weight else np.nan
