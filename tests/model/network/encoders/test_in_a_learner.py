import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from model.network.encoders import ENCODERS
from stream.example import Example, decode
from tests.factories import make_examples

TRAIN = TrainSettings(device="cpu", negatives=64, learning_rate=3e-3, window_targets=300)
every = pytest.mark.parametrize("name", sorted(ENCODERS))


def stream(count: int) -> list[Example]:
    [log] = make_examples(seed=2, users=30, items=60, count=count, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def learner(name: str) -> Learner:
    shape = ModelSettings.model_validate({"encoder": name, "dim": 32, "layers": 1, "max_len": 64})
    return Learner(shape, TRAIN)


def go_on(one: Learner, examples: list[Example]) -> str:
    for start in range(0, len(examples), 8):
        one.step(examples[start : start + 8])
    return one.digest()


@pytest.mark.parametrize("name", sorted({*ENCODERS} - {"hstu"}))  # that one: tests/model/learning/test_learner.py
def test_it_learns(name: str) -> None:
    """Where the next item follows from the last, the hit rate leaves popularity far behind."""
    one = learner(name)
    go_on(one, stream(1200))
    hr = {scorer: window.latest().as_dict()["all"]["hr@10"] for scorer, window in one.metrics.retrieval.items()}
    assert hr["hstu"] > 2 * hr["popularity"]


@every
def test_a_restored_learner_goes_on_to_the_same_bits(name: str) -> None:
    """Weights and moments of every encoder are in the state of a checkpoint."""
    examples = stream(64)
    whole, halves, restored = (learner(name) for _ in range(3))
    go_on(halves, examples[:32])
    restored.load_state({key: np.array(array) for key, array in halves.state().items()})
    assert go_on(restored, examples[32:]) == go_on(whole, examples)
