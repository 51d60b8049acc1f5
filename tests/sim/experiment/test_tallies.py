"""Tallies of a run: by hundredth of the stream, with the last tenth and the frozen test apart."""

import numpy as np
import pytest

from model.data.item_age import SLICES
from sim.experiment import contestants
from sim.experiment.hundredths import late_from
from sim.experiment.tallies import Tallies


def ranked(*ranks: float, at_ms: int = 5_000) -> contestants.Tested:
    count = len(ranks)
    return contestants.Tested(np.array(ranks), np.full(count, len(SLICES) - 1), np.full(count, at_ms))


def filled(late: int = 90) -> Tallies:
    tallies = Tallies(200, late)
    tallies.count(0, ranked(1, 20, at_ms=1_000))
    tallies.count(1, ranked(100, at_ms=4_000))
    tallies.count(180, ranked(2))
    return tallies


def test_the_last_tenth_counts_twice() -> None:
    """Means over all targets, and over those of the last tenth; without a frozen test its columns are None."""
    figures = filled().figures()
    assert (figures["targets"], figures["late_targets"], figures["frozen_targets"]) == (4, 1, None)
    assert (figures["hr10"], figures["hr50"]) == (0.5, 0.75)
    assert figures["mrr"] == pytest.approx((1 + 1 / 20 + 1 / 100 + 1 / 2) / 4)
    assert (figures["late_hr10"], figures["late_mrr"]) == (1.0, 0.5)
    assert figures["frozen_hr10"] is None


def test_the_last_part_begins_where_it_is_asked_to() -> None:
    """The second half has the targets from the middle of the stream on; the whole stream is a part as well."""
    assert [late_from(share) for share in (0.1, 0.5, 1.0, 0.01)] == [90, 50, 0, 99]
    assert [filled(late).figures()["late_targets"] for late in (91, 90, 50, 0)] == [0, 1, 1, 4]


def test_rows_are_sums_by_hundredth_and_age() -> None:
    """Two examples of 200 share a hundredth; its time is the mean of its requests'."""
    first, last = filled().rows()
    assert (first["bucket"], first["time_ms"], first["age"], first["targets"]) == (0, 2_000, SLICES[-1], 3)
    assert (first["hr10"], last["bucket"], last["hr10"]) == (1.0, 90, 1.0)


def test_a_state_restores_everything() -> None:
    """Figures and rows of restored tallies are equal, the frozen test included."""
    tallies, restored = filled(), Tallies(200, 90)
    tallies.count_frozen(ranked(1, 1))
    restored.load_state(tallies.state())
    assert restored.figures() == tallies.figures()
    assert restored.rows() == tallies.rows()
    assert restored.has_frozen
