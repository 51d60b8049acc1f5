import math

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from model.data.item_age import SLICES
from model.errors import ModelError
from model.evaluation import metrics
from model.evaluation.metrics import RankingTally, RetrievalTally
from model.evaluation.window import BLOCKS, Window

batches = st.lists(st.integers(0, 30), max_size=40)  # targets of each micro-batch


def tally(targets: int, rank: int) -> RetrievalTally:
    tally = RetrievalTally()
    tally.count(np.full(targets, rank, float), np.full(targets, rank % len(SLICES)))
    return tally


def fill(window: Window[RetrievalTally], sizes: list[int]) -> None:
    for n, size in enumerate(sizes, 1):
        window.add(tally(size, n))


def sums(tally: RetrievalTally) -> np.ndarray:
    return tally.arrays["sums"]


@given(batches, st.integers(1, 100))
@example([1] * 40, 20)  # blocks that are full to the target
def test_the_window_holds_the_latest_targets_and_not_many_more(sizes: list[int], targets: int) -> None:
    """It is a suffix of the micro-batches, of at least `targets` targets, and of eleven blocks at most."""
    window = Window(RetrievalTally(), targets)
    fill(window, sizes)
    held = window.latest().targets
    suffixes = [tally(0, 1) for _ in range(len(sizes) + 1)]
    for start, suffix in enumerate(suffixes):
        for n in range(start, len(sizes)):
            suffix.add(tally(sizes[n], n + 1))
    assert any(np.allclose(sums(window.latest()), sums(suffix)) for suffix in suffixes)
    assert held >= min(targets, sum(sizes))
    short = math.ceil(targets / BLOCKS) - 1  # of a block that is not closed yet
    assert held <= BLOCKS * (short + max([0, *sizes])) + short


@given(batches, st.integers(1, 100))
def test_the_total_holds_all(sizes: list[int], targets: int) -> None:
    """The total is the sum of all micro-batches, whatever the window has dropped."""
    window, endless = Window(RetrievalTally(), targets), Window(RetrievalTally(), 10**9)
    fill(window, sizes)
    fill(endless, sizes)
    assert window.total.targets == sum(sizes)
    assert np.array_equal(sums(window.total), sums(endless.total))
    assert window.as_dict()["total"] == window.total.as_dict()
    assert window.as_dict()["window"] == window.latest().as_dict()


@given(batches, batches, st.integers(1, 100))
def test_a_restored_window_goes_on_to_the_same_bits(before: list[int], then: list[int], targets: int) -> None:
    """State and later sums are equal; the two windows share no memory."""
    original = Window(RetrievalTally(), targets)
    fill(original, before)
    restored = Window.from_state(original.state(), RetrievalTally(), targets)
    fill(original, then)
    fill(restored, then)
    for name, array in original.state().items():
        assert np.array_equal(array, restored.state()[name])


def test_a_state_of_other_actions_is_refused() -> None:
    """A run does not go on with other ranking towers."""
    state = Window(RankingTally(["click"]), 10).state()
    with pytest.raises(ModelError, match=r"keep model.rank_actions"):
        Window.from_state(state, RankingTally(["click", "like"]), 10)


def test_a_state_of_other_metrics_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint from before a metric was added: the error names the cause, not the ranking towers."""
    state = Window(RetrievalTally(), 10).state()
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, metrics.hit_rate(7)))
    with pytest.raises(
        ModelError, match=rf"\(5, {len(metrics.METRICS)}\) where .* is wanted; they count other metrics"
    ) as error:
        Window.from_state(state, RetrievalTally(), 10)
    assert "rank_actions" not in str(error.value)
