import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import model.learning.fusion
from model.config import ModelSettings, TrainSettings
from model.data.entity_index import EntityIndex
from model.evaluation.prequential import ENCODER, MODEL, STACK
from model.fusion.log_linear import FEATURES
from model.learning.fusion import Fusion
from model.learning.ranker import Ranker
from model.network.retrieval_loss import unit
from model.optim.parameters import Parameters
from stream.example import Example
from tests.model.learning.test_learner import batches, stream

SHAPE, TRAIN = ModelSettings(dim=8, layers=1, heads=2, max_len=16), TrainSettings(device="cpu")


class Side:
    """A fusion beside random queries, over an index of its own."""

    def __init__(self, *, exclude_seen: bool = False, fused: bool = True, stack: bool = True) -> None:
        self.index, self.weights = EntityIndex(), Parameters(SHAPE, TRAIN)
        ranker = Ranker(self.weights, exclude_seen=exclude_seen)
        self.fusion = Fusion(ranker, SHAPE.temperature, 0, fused=fused, exclude_seen=exclude_seen, stack=stack)

    def step(
        self, batch: list[Example], *, test: bool | NDArray[np.bool_] = True, learn: bool = True
    ) -> dict[str, NDArray[np.float64]]:
        taken = self.index.take_in(batch)
        self.weights.grow(self.index.items.keys, len(self.index.features))
        generator = torch.Generator().manual_seed(len(self.index.items))
        queries_PD = unit(torch.randn(len(taken.questions), SHAPE.dim, generator=generator))
        drawn_P = np.resize(test, len(taken.questions))
        return self.fusion.step(queries_PD, taken.questions, taken.answered, test=drawn_P, learn=learn)

    def set_weights(self, **named: float) -> None:
        state = {name: np.array(array) for name, array in self.fusion.state().items()}
        state["weights"][:] = [named.get(name, 0.0) for name in FEATURES]
        self.fusion.load_state(state)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_with_no_weight_on_counts_the_fused_ranks_are_those_of_the_encoder(exclude_seen: bool) -> None:
    """Candidates are the same, and so is what is left out."""
    side = Side(exclude_seen=exclude_seen)
    side.set_weights(encoder=0.7)
    finite = 0
    for batch in batches(stream(count=96)):
        found = side.step(batch, learn=False)
        assert found[MODEL].tolist() == found[ENCODER].tolist()
        finite += np.isfinite(found[MODEL]).sum()
    assert finite > 20


def test_without_fusion_the_model_is_the_encoder_and_the_stack_stands_beside_it() -> None:
    """The stack's ranks are those that it has beside a fused model."""
    alone, fused = Side(fused=False), Side()
    for batch in batches(stream(count=96)):
        ours, theirs = alone.step(batch), fused.step(batch)
        assert ours[MODEL].tolist() == ours[ENCODER].tolist() == theirs[ENCODER].tolist()
        assert ours[STACK].tolist() == theirs[STACK].tolist()


def test_the_stack_beside_it_decides_nothing() -> None:
    """Fused ranks, and the arrays that decide them, are the same with it and without it."""
    sides = Side(stack=True), Side(stack=False)
    for batch in batches(stream(count=48)):
        ranks = [side.step(batch)[MODEL].tolist() for side in sides]
        assert ranks[0] == ranks[1]
    one, other = (side.fusion.deciding() for side in sides)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_it_learns_to_trust_counts_and_not_noise() -> None:
    """Beside random queries the encoder's weight falls and the fused ranks come near those of the counts alone."""
    side = Side()
    found = [side.step(batch) for batch in batches(stream(count=600, items=60, users=30))]
    late = {name: np.mean(np.concatenate([each[name] for each in found[40:]]) <= 10) for name in found[0]}
    assert late[MODEL] > 1.3 * late[ENCODER]
    assert abs(late[MODEL] - late[STACK]) < 0.05


def test_bits_do_not_depend_on_what_is_tested_or_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and counts are learned alike whether ranks are asked for, and whatever part is held at once."""
    ended = []
    for test, logits in ((True, 1 << 24), (False, 1 << 24), (True, 1)):
        monkeypatch.setattr(model.learning.fusion, "_LOGITS", logits)
        side = Side()
        for batch in batches(stream(count=96)):
            side.step(batch, test=test)
        ended.append(side.fusion.state())
    tested, untested, in_parts = ended
    assert all(np.array_equal(tested[name], untested[name]) for name in tested)
    for name in ("weights", "counts.features"):  # PyTorch's products of one row and of many differ in the last bits
        assert in_parts[name] == pytest.approx(tested[name], abs=1e-5)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_a_large_catalogue_is_learnt_by_the_logits_that_are_needed(
    monkeypatch: pytest.MonkeyPatch, exclude_seen: bool
) -> None:
    """The weights are those that all logits give, and to the bit the same whichever targets are tested.

    A tested target has the rank that it has where all are tested.
    """
    monkeypatch.setattr(model.fusion.log_linear, "POOL", 8)
    ended, ranks = [], []
    for whole, every in ((1 << 16, 1), (0, 1), (0, 3), (0, 10**9)):
        monkeypatch.setattr(model.learning.fusion, "WHOLE", whole)
        side, found = Side(exclude_seen=exclude_seen), []
        for batch in batches(stream(count=96)):
            count = sum(len(example.positions) for example in batch)
            got = side.step(batch, test=np.arange(count) % every == every - 1)
            found.append(got[MODEL].tolist()[:: 1 if every > 1 else 3] if got and every < 10 else [])
        ended.append(side.fusion.state())
        ranks.append(found)
    dense, *listed = ended
    for name in ("weights", "counts.features"):
        assert listed[0][name] == pytest.approx(dense[name], abs=1e-5)
    for other in listed[1:]:
        assert all(np.array_equal(listed[0][name], other[name]) for name in other)
