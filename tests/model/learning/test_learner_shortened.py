"""The learner where Stochastic Length shortens what is trained on."""

from typing import Any

import numpy as np

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from stream.example import Example, decode
from tests.factories import make_examples

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=48, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16)


def stream(count: int) -> list[Example]:
    [log] = make_examples(users=3, count=count, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def trained(examples: list[Example], **train: Any) -> tuple[Learner, list[Any]]:
    learner = Learner(MODEL, TRAIN.model_copy(update=train))
    return learner, [learner.step(examples[i : i + 8]) for i in range(0, len(examples), 8)]


def test_what_shortens_nothing_changes_no_bit() -> None:
    """Alpha 2 draws and drops nothing: the digest is that of the learner without it."""
    examples = stream(80)
    assert trained(examples, stochastic_length_alpha=2.0)[0].digest() == trained(examples)[0].digest()


def test_runs_repeat_themselves_and_go_on_from_a_state() -> None:
    """The same seed gives the same bits, also after a resume; another seed drops others; and dropping matters."""
    examples, alpha = stream(96), 1.3
    whole, _ = trained(examples, stochastic_length_alpha=alpha)
    assert (
        trained(examples, stochastic_length_alpha=alpha)[0].digest() == whole.digest() != trained(examples)[0].digest()
    )
    half, _ = trained(examples[:48], stochastic_length_alpha=alpha)
    other = Learner(half.model, half.train)
    other.load_state(half.state())
    for i in range(48, 96, 8):
        other.step(examples[i : i + 8])
    assert other.digest() == whole.digest()


def test_the_test_sees_everything() -> None:
    """Up to the first shortened step the weights are equal, and so are all ranks and logits of that step's test."""
    examples = stream(96)
    (_, with_all), (_, with_part) = trained(examples), trained(examples, stochastic_length_alpha=1.1)
    differs = [i for i, (a, b) in enumerate(zip(with_all, with_part, strict=True)) if a.loss != b.loss]
    assert differs
    for a, b in zip(with_all[: differs[0] + 1], with_part[: differs[0] + 1], strict=True):
        np.testing.assert_equal(a.outcome.logits, b.outcome.logits)
        np.testing.assert_array_equal(a.outcome.ranks["hstu"], b.outcome.ranks["hstu"])
