import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.entity_index import EntityIndex
from model.evaluation.prequential import ENCODER, LOGISTIC, MODEL
from model.fusion.click_tables import FEATURES, TOWER
from model.learning.click_fusion import ClickFusion
from stream.example import Example
from tests.model.learning.test_learner import batches, clicked_by_key, stream

ACTIONS = ("click", "like")


class Side:
    """A fusion beside towers that know whether an item's key is even, or nothing."""

    def __init__(self, *, knows: bool = True, fused: bool = True, logistic: bool = True) -> None:
        self.index, self.knows = EntityIndex(ACTIONS), knows
        self.fusion = ClickFusion(ACTIONS, fused=fused, logistic=logistic)
        self._rng = np.random.default_rng(1)

    def step(self, batch: list[Example], *, learn: bool = True) -> dict[str, NDArray[np.float64]]:
        taken = self.index.take_in(batch).batch
        even_N = taken.tokens.keys[taken.tokens.positions[taken.targets.shown]] % 2 == 0
        tower_NA = self._rng.standard_normal((len(even_N), 2))
        if self.knows:
            tower_NA = np.repeat(np.where(even_N, 3.0, -3.0)[:, None], 2, axis=1)
        return self.fusion.step(tower_NA, taken, self.index, learn=learn)


def loss(side: Side, name: str) -> float:
    """Return the mean log-loss of clicks in the second half of a stream, in which even keys are clicked."""
    found, labels = [], []
    for batch in batches([clicked_by_key(example) for example in stream(count=400, items=300, users=30)]):
        found.append(side.step(batch)[name][:, 0])
        labels.append(side.index.known(batch).targets.labels[:, 0])
    logit_N, label_N = np.concatenate(found), np.concatenate(labels)
    loss_N = np.logaddexp(0, np.where(label_N, -logit_N, logit_N))
    return float(loss_N[len(loss_N) // 2 :].mean())


def test_a_tower_that_knows_more_than_counts_is_trusted_and_noise_is_not() -> None:
    """Items come too seldom for counts; beside random towers the fused loss is that of the counts."""
    assert loss(Side(), MODEL) < 0.6 * loss(Side(), LOGISTIC)
    assert loss(Side(knows=False), MODEL) == pytest.approx(loss(Side(knows=False), LOGISTIC), rel=0.05)


def test_without_fusion_the_model_is_the_towers_and_the_regression_stands_beside_them() -> None:
    """The regression's logits are those that it has beside a fused model."""
    alone, fused = Side(fused=False), Side()
    for batch in batches(stream(count=64)):
        ours, theirs = alone.step(batch), fused.step(batch)
        assert ours[MODEL].tolist() == ours[ENCODER].tolist() == theirs[ENCODER].tolist()
        assert ours[LOGISTIC].tolist() == theirs[LOGISTIC].tolist()


def test_the_regression_beside_it_decides_nothing() -> None:
    """Fused logits, and the arrays that decide them, are the same with it and without it."""
    sides = Side(), Side(logistic=False)
    for batch in batches(stream(count=48)):
        logits = [side.step(batch)[MODEL].tolist() for side in sides]
        assert logits[0] == logits[1]
    one, other = (side.fusion.deciding() for side in sides)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_snapshot_of_what_is_not_fused_leaves_the_towers_as_they_are() -> None:
    """All weights but that of the tower are 0."""
    weights = Side(fused=False, logistic=False).fusion.snapshot_arrays(EntityIndex(ACTIONS))["weights"]
    assert (weights[:, :, TOWER] == 1).all()
    assert np.delete(weights, TOWER, 2).tolist() == np.zeros((1, 2, len(FEATURES) - 1)).tolist()
