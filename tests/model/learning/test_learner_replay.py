"""The learner where it trains on the past again."""

from typing import Any

import numpy as np
import pytest
import torch

from model.arrays.byte_strings import unpack
from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.learning.learner import Learner
from stream.example import Example, decode, farewell
from tests.factories import make_examples

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=48, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, replay_every=1, replay_examples=6)


def stream(count: int) -> list[Example]:
    [log] = make_examples(users=3, count=count, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def trained(examples: list[Example], **train: Any) -> tuple[Learner, list[Any]]:
    learner = Learner(MODEL, TRAIN.model_copy(update=train))
    return learner, [learner.step(examples[i : i + 8]) for i in range(0, len(examples), 8)]


def weights(learner: Learner) -> dict[str, Any]:
    return learner.weights.state()


def same(one: Learner, other: Learner) -> bool:
    return all(np.array_equal(array, weights(other)[name]) for name, array in weights(one).items())


def test_a_micro_batch_is_not_replayed_before_it_is_past() -> None:
    """After the first one the weights are those without replay; the second one moves them further."""
    examples = stream(16)
    assert same(trained(examples[:8])[0], trained(examples[:8], replay_every=0)[0])
    assert not same(trained(examples)[0], trained(examples, replay_every=0)[0])


def test_a_step_on_the_past_follows_every_nth_micro_batch() -> None:
    """With 3, the weights are those without replay until the third step has been taken."""
    examples = stream(24)
    assert same(trained(examples[:16], replay_every=3)[0], trained(examples[:16], replay_every=0)[0])
    assert not same(trained(examples, replay_every=3)[0], trained(examples, replay_every=0)[0])


def test_what_is_tested_has_no_dropout_and_comes_first() -> None:
    """No setting of the replay changes the second micro-batch's ranks, logits or own loss."""
    examples = stream(16)
    _, [_, plain] = trained(examples, replay_every=0)
    for train in ({}, {"replay_every": 2}, {"replay_input_dropout": 0.9, "replay_output_dropout": 0.9}):
        _, [_, replayed] = trained(examples, **train)
        np.testing.assert_array_equal(replayed.outcome.ranks["hstu"], plain.outcome.ranks["hstu"])
        np.testing.assert_equal(replayed.outcome.logits, plain.outcome.logits)
        assert replayed.loss == plain.loss


@pytest.mark.parametrize(
    "train",
    [
        *({"replay_every": 2}, {"replay_examples": 2}, {"replay_input_dropout": 0.0}, {"replay_output_dropout": 0.5}),
        *({"replay_mib": 0.002}, {"replay_every": 0}, {"seed": 1}),
    ],
)
def test_each_setting_has_an_effect_and_runs_go_on_from_their_state(train: dict[str, Any]) -> None:
    """Equal settings give equal bits, also after a resume in mid-stream; other ones give others."""
    examples = stream(64)
    whole, _ = trained(examples, **train)
    assert trained(examples, **train)[0].digest() == whole.digest()
    assert not same(trained(examples)[0], whole)
    half, _ = trained(examples[:32], **train)
    resumed = Learner(half.model, half.train)
    resumed.load_state({name: np.array(array) for name, array in half.state().items()})
    assert resumed.digest() == half.digest()
    for i in range(32, 64, 8):
        resumed.step(examples[i : i + 8])
    assert resumed.digest() == whole.digest()


def test_what_is_only_tested_is_not_kept() -> None:
    """Without learning there is no step on the past, and the micro-batch does not join it."""
    examples = stream(24)
    learner, _ = trained(examples[:16])
    before = learner.digest()
    learner.step(examples[:8], learn=False)
    assert learner.digest() == before


def test_stochastic_length_shortens_the_past_too() -> None:
    """Other tokens of the same past are dropped with another alpha."""
    examples = stream(64)
    ones = [trained(examples, stochastic_length_alpha=alpha)[0] for alpha in (1.1, 1.1, 0.0)]
    assert same(ones[0], ones[1])
    assert not same(ones[0], ones[2])


def test_divergence_in_a_replay_names_the_step() -> None:
    """It stops the trainer as any other does."""
    examples = stream(24)
    learner, _ = trained(examples[:16])
    gain = learner.weights.recommender.recency.gain  # type: ignore[union-attr]
    descend, calls = learner.weights.descend, []

    def poisoned(loss: torch.Tensor, gathered: Any, ratio: float = 1.0) -> float:
        calls.append(1)
        return descend(loss * (float("nan") if len(calls) == 2 else 1.0), gathered, ratio)

    learner.weights.descend = poisoned  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"At step 3 of trainer silu: training has diverged"):
        learner.step(examples[16:])
    assert torch.isfinite(gain).all()


def test_a_forgotten_user_is_not_trained_on_again() -> None:
    """The example that says so is neither tested nor counted, alone or among others; the past has the user no more."""
    examples = stream(16)
    user = examples[0].user
    gone = farewell(0, 99, examples[-1].final_ms, user)
    plain, _ = trained(examples)
    learner, reports = trained([*examples[:8], *examples[8:15], gone, examples[15]])
    assert [report.examples for report in reports] == [8, 7, 1]
    assert learner.counts["examples"] == plain.counts["examples"]
    report = learner.step([gone])
    assert (report.examples, report.outcome) == (0, None)
    assert learner.counts["steps"] == 3
    kept = {decode(message).user for message in unpack(*_past(learner))}  # type: ignore[union-attr]
    assert kept == {example.user for example in examples} - {user}
    assert user in plain.state()["fusion.counts.neighbours.users"]
    assert set(learner.state()["fusion.counts.neighbours.users"].tolist()) == kept
    assert not any("users" in name for name in learner.snapshot_arrays(examples[-1].final_ms))


def _past(learner: Learner) -> tuple[Any, Any]:
    state = learner.state()
    return state["past.messages"], state["past.offsets"]
