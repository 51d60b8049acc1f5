"""Losses for labels that come late: the weight of each example that a learner is given, and what it then answers.

An impression leads to an action with probability p, within the action window W, after some delay; what is final after W
is its label. A learner that does not wait is given other examples than one for each impression with its label, so it
learns another probability, unless the log-loss of an example is weighted by its probability under the true law over
that under the law of the examples:

    loss = - weight(label) (label log f + (1 - label) log(1 - f)),        slope by the logit: weight(label) (f - label)

f is the learner's answer. No gradient goes through a weight.

    naive     A negative at once, and a positive when the action comes; weights 1. Of an impression's examples
              b = p / (1 + p) are positives, which is what f tends to.
    FNW       Fake negative weighted (Ktena et al., RecSys 2019, arXiv 1907.06558): the same examples with weight 1 + p
              for a positive and (1 - p) (1 + p) for a negative, where f stands for p.
    FNC       Fake negative calibration (the same paper): examples and weights of naive; the answer is p = b / (1 - b).
    ES-DFM    Elapsed-time sampling (Yang et al., AAAI 2021, arXiv 2012.03245): at w_e < W after the impression an
              example with what has happened by then, and a positive when the action comes later. Weights are 1 + p_dp
              for a positive and (1 + p_dp) p_rn for a negative. p_dp is the probability of an action between w_e and W,
              p_rn that of a negative of w_e to be one for good; each has a head of its own.
    back      For comparison, with neither weights nor heads: the examples of ES-DFM, but an action that comes later
              takes its negative back: its slope is (f - 1) - f. So an impression's slopes add up to that of its label.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled

PLAIN, FNW, ES_DFM, BACK = range(4)  # how examples are weighted
MOST: Final = 0.99  # of an answer of FNC: b / (1 - b) has no bound


@compiled
def slope(loss: int, acted: bool, again: bool, answer: float, later: float, real: float) -> float:
    """Return the slope of an example's loss by the logit.

    Args:
        loss: PLAIN, FNW, ES_DFM or BACK.
        acted: The example's label.
        again: Whether it is a positive whose impression has been a negative before.
        answer: The learner's answer f.
        later: p_dp, for ES_DFM.
        real: p_rn, for ES_DFM.
    """
    weight = 1.0
    if loss == FNW:
        weight = 1.0 + answer if acted else (1.0 - answer) * (1.0 + answer)
    elif loss == ES_DFM:
        weight = 1.0 + later if acted else (1.0 + later) * real
    elif loss == BACK and again:
        return -1.0
    return weight * (answer - acted)


def calibrated(logit_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of FNC's answers p = b / (1 - b), by the logits of b, whose odds that is."""
    p_T = np.minimum(np.exp(np.minimum(logit_T, 0.0)), MOST)
    return np.log(p_T) - np.log1p(-p_T)
