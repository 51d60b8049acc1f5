"""A logistic regression that is asked and given examples one by one, in the order of their times, under any loss.

T = impressions, E = steps, K = features of an impression, F = rows (delayed_stream.py), H = heads. What is asked of an
impression is asked at its time, with what was learnt before. A way of learning (Way) says which examples there are and
when; of two steps of one instant asking comes first. Heads have weights of their own, which Adagrad moves, each example
in a step of its own.
"""

from functools import partial
from typing import Final, NamedTuple

import delayed_losses
import numpy as np
from delayed_losses import BACK, ES_DFM, FNW, PLAIN, calibrated, slope
from delayed_stream import Floats, Ints, Shown
from numpy.typing import NDArray

from model.arrays.jit import compiled

HEADS: Final = range(3)
CLICK, LATER, REAL = HEADS  # p, and p_dp and p_rn of ES-DFM
ASK: Final = -1  # in place of a head
WAYS: Final = ("wait", "oracle", "shorter", "naive", "FNW", "FNC", "ES-DFM", "back")
EARLY: Final = ("shorter", "ES-DFM", "back")  # which have a window w_e
LOSSES: Final = {"FNW": FNW, "ES-DFM": ES_DFM, "back": BACK}
TINY: Final = 1e-6


class Steps(NamedTuple):
    """What happens, in order."""

    head: NDArray[np.int64]  # [E] ASK, or the head that learns
    impression: NDArray[np.int64]  # [E]
    label: NDArray[np.bool_]  # [E]
    again: NDArray[np.bool_]  # [E] whether it is a positive whose impression has been a negative before


class Found(NamedTuple):
    """What was answered."""

    logits: Floats  # [T]
    age_ms: Floats  # [T] time since the newest impression that the learner had an example of; NaN: of none


def steps_of(way: str, shown: Shown, window_ms: int, elapsed_ms: int) -> Steps:
    """Return the steps of a way of learning.

    Args:
        way: One of WAYS.
        shown: The impressions.
        window_ms: The action window W.
        elapsed_ms: The window w_e of those in EARLY.
    """
    ts, delay, final_ms = shown.ts_ms, shown.acted_ms - shown.ts_ms, shown.ts_ms + window_ms
    label, every = delay < window_ms, np.arange(len(ts))
    soon = label & (delay <= elapsed_ms)
    no = np.zeros_like(label)
    parts: list[tuple[Ints, int, Ints, NDArray[np.bool_], bool]] = [(ts, ASK, every, no, False)]
    if way in ("wait", "oracle"):
        parts += [(final_ms if way == "wait" else ts, CLICK, every, label, False)]
    elif way in EARLY:
        parts += [(ts + elapsed_ms, CLICK, every, soon, False)]
    else:
        parts += [(ts, CLICK, every, no, False)]
    if way not in ("wait", "oracle", "shorter"):
        late = np.flatnonzero(label & ~soon if way in EARLY else label)
        parts += [(shown.acted_ms[late], CLICK, late, label[late], True)]
    if way == "ES-DFM":
        rest = np.flatnonzero(~soon)
        parts += [(final_ms, LATER, every, label & ~soon, False), (final_ms[rest], REAL, rest, ~label[rest], False)]
    columns = [(time, np.full(len(i), head), i, y, np.full(len(i), again)) for time, head, i, y, again in parts]
    time, head, impression, labels, again = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((impression, head, time))
    return Steps(head[order], impression[order], labels[order], again[order])


def answers(way: str, shown: Shown, steps: Steps, rate: float) -> Found:
    """Return the answers to all impressions."""
    weights_HF = np.zeros((len(HEADS), shown.count))
    weights_HF[LATER, 0], weights_HF[REAL, 0] = -3.0, 3.0  # at first few actions are taken to come later
    logits = _run(*steps, shown.rows, shown.values, LOSSES.get(way, PLAIN), rate, weights_HF)
    return Found(calibrated(logits) if way == "FNC" else logits, ages_ms(steps, shown.ts_ms))


def ages_ms(steps: Steps, ts_ms_T: Ints) -> Floats:
    """Return the time since the newest impression with an example, as of each asking, [T]; NaN where there is none."""
    asks = steps.head == ASK
    newest_ms_E = np.maximum.accumulate(np.where(steps.head == CLICK, ts_ms_T[steps.impression], -1))
    age_ms_T = np.empty(len(ts_ms_T))
    asked, newest_ms = steps.impression[asks], newest_ms_E[asks]
    age_ms_T[asked] = np.where(newest_ms < 0, np.nan, ts_ms_T[asked] - newest_ms)
    return age_ms_T


@compiled
def _logit(head: int, weights_HF: Floats, rows_K: Ints, values_K: Floats) -> float:
    found = 0.0
    for k in range(len(rows_K)):
        found += weights_HF[head, rows_K[k]] * values_K[k]
    return found


@compiled
def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + np.exp(-logit))


@partial(compiled, calls=(delayed_losses.__file__,))
def _run(
    head_E: Ints, impression_E: Ints, label_E: NDArray[np.bool_], again_E: NDArray[np.bool_], rows_TK: Ints,
    values_TK: Floats, loss: int, rate: float, weights_HF: Floats,
) -> Floats:  # fmt: skip
    """Return the logits asked for, [T]."""
    squares_HF, logits_T = np.zeros_like(weights_HF), np.empty(len(rows_TK))
    for e in range(len(head_E)):
        head, t = head_E[e], impression_E[e]
        rows_K, values_K = rows_TK[t], values_TK[t]
        if head < 0:
            logits_T[t] = _logit(CLICK, weights_HF, rows_K, values_K)
            continue
        answer, later, real = _sigmoid(_logit(head, weights_HF, rows_K, values_K)), 0.0, 1.0
        if head == CLICK and loss == ES_DFM:
            later = _sigmoid(_logit(LATER, weights_HF, rows_K, values_K))
            real = _sigmoid(_logit(REAL, weights_HF, rows_K, values_K))
        off = slope(loss if head == CLICK else PLAIN, label_E[e], again_E[e], answer, later, real)
        for k in range(len(rows_K)):
            by_weight = off * values_K[k]
            squares_HF[head, rows_K[k]] += by_weight * by_weight
            weights_HF[head, rows_K[k]] -= rate * by_weight / np.sqrt(squares_HF[head, rows_K[k]] + TINY)
    return logits_T
