from typing import Any

import numpy as np
import pytest

from model.attention.tile_plan import AREA
from model.config import ModelSettings
from model.network.rankers import RANKERS
from model.serving.scorer import Scorer
from model.user_states.history import History
from stream.example import Kind
from tests.served import NOW_MS, model_arrays, snapshot_of

ITEMS = 700
SHAPE = ModelSettings(dim=16, layers=2, heads=2, max_len=401, rank_actions=("click", "like"))


def scorer(**settings: Any) -> Scorer:
    shape = SHAPE.model_copy(update=settings)
    return Scorer(snapshot_of(model_arrays(items=ITEMS, settings=shape), shape))


def history(length: int) -> History:
    rng = np.random.default_rng(length)
    kinds = rng.choice([int(Kind.IMPRESSION), int(Kind.ACTION)], length)
    actions = np.where(kinds == Kind.ACTION, 0, -1)
    ts_ms = NOW_MS - 60_000 * np.arange(length, 0, -1)
    return History(rng.integers(ITEMS, size=length), np.full(length, -1), actions, ts_ms, kinds)


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": "functional"}, {"bias": "none"}, {"attention": "softmax"}, {"attention": "silu_seen"}],
    ids=str,
)
def test_hundreds_of_candidates_in_one_pass_equal_single_passes(settings: dict[str, Any]) -> None:
    """Keys and values of the history are computed once, candidates attend to them in parts; equal to 1e-5."""
    ours, long = scorer(**settings), history(400)
    candidates = np.random.default_rng(1).permutation(ITEMS)
    assert len(candidates) * len(long) > 2 * AREA["cpu"]  # several parts
    together = ours.rank(long, candidates, NOW_MS)
    for i in np.random.default_rng(2).choice(ITEMS, 60, replace=False):
        alone = ours.rank(long, candidates[i : i + 1], NOW_MS)
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[i], atol=1e-5)
        np.testing.assert_allclose(alone.retrieval[0], together.retrieval[i], atol=1e-5)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_a_model_that_only_ranks_is_served(name: str) -> None:
    """Candidates together have the probabilities that each has alone, with and without a history; topk answers."""
    ours, candidates = scorer(encoder=name, bias="none"), np.arange(12)
    for length in (0, 60):
        together = ours.rank(history(length), candidates, NOW_MS).probabilities
        alone = [ours.rank(history(length), candidates[i : i + 1], NOW_MS).probabilities for i in (0, 5, 11)]
        np.testing.assert_allclose(np.concatenate(alone), together[[0, 5, 11]], atol=1e-5)
    assert np.ptp(together[:, 0]) > 0
    assert len(ours.topk(history(60), NOW_MS, 5, np.empty(0, np.int64))[0]) == 5
