"""Population stability index (PSI): how far the distribution of a block is from that of the blocks before it.

    PSI = sum over bins of (q - p) ln(q / p)

q is the share of a bin in the block, p that in the reference, over the bins that are empty in one of them at most; half
a count is added to each.
The reference fades by DECAY a block, so it is that of the last few. Source: Siddiqi, Credit Risk Scorecards (2006).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DECAY: Final = 0.9


class Reference:
    """The distribution of the blocks before.

    Args:
        counts: Its faded counts by bin, [B].
    """

    def __init__(self, counts: NDArray[np.float64]) -> None:
        self.counts = counts

    def add(self, block: NDArray[np.int64]) -> float | None:
        """Take a block's counts by bin, [B], and return its PSI; None for a first block, and for an empty one."""
        index = psi(self.counts, block) if self.counts.any() and block.any() else None
        self.counts = DECAY * self.counts + block
        return index


def psi(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Return the PSI of two histograms over the same bins."""
    used = (before > 0) | (now > 0)
    p, q = ((counts[used] + 0.5) / (counts.sum() + 0.5 * used.sum()) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())
