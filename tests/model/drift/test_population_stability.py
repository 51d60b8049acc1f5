"""The population stability index against its formula, and the reference that fades."""

import math

import numpy as np
import pytest

from model.drift.population_stability import DECAY, Reference, psi


def test_it_is_the_sum_over_bins() -> None:
    """By hand, with half a count in each bin that is used; a bin that both have empty changes nothing."""
    before, now = (3.5 / 10.5, 6.5 / 10.5, 0.5 / 10.5), (0.5 / 5.5, 1.5 / 5.5, 3.5 / 5.5)
    by_hand = sum((q - p) * math.log(q / p) for p, q in zip(before, now, strict=True))
    assert psi(np.array([3, 6, 0, 0]), np.array([0, 1, 3, 0])) == pytest.approx(by_hand)
    assert psi(np.array([7, 0]), np.array([90, 0])) == 0


def test_the_reference_is_of_the_last_blocks() -> None:
    """The first block has nothing to be compared with, and an empty one moves nothing but the weight of the past."""
    reference = Reference(np.zeros(2))
    assert reference.add(np.array([8, 2])) is None
    assert reference.add(np.array([8, 2])) == pytest.approx(0)
    assert reference.add(np.array([0, 0])) is None
    assert reference.counts == pytest.approx(np.array([8, 2]) * (1 + DECAY) * DECAY)
    assert reference.add(np.array([2, 8])) == pytest.approx(1.6, abs=0.3)
    for _ in range(50):
        last = reference.add(np.array([2, 8]))
    assert last == pytest.approx(0, abs=0.01)
