"""An activation and a bias that were added without kernels: they run on the plain path."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from model.attention import relative_bias
from model.attention.activations import ACTIVATIONS, Activation
from model.attention.reference import attention as reference
from model.attention.tile_plan import Tile, TilePlan
from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from model.network.encoders.hstu import Encoder
from stream.example import Example, decode
from tests.factories import make_examples
from tests.model.attention.attention_cases import Case, close, offsets_of, tiled_attention


class Relu(Activation):
    """relu(score) / max_len."""

    scaled = False

    def __init__(self, plan: TilePlan, dtype: torch.dtype) -> None:
        self._factors = [tile.visible.to(dtype) / plan.max_len for tile in plan.tiles]

    @staticmethod
    def row_weights(scores: Tensor, max_len: int) -> Tensor:
        return relu(scores) / max_len

    def weights(self, scores: Tensor, tile: Tile) -> Tensor:
        return relu(scores) * self._factors[tile.number]


class SameDay(nn.Module):
    """One number for all pairs less than a day apart."""

    def __init__(self, max_len: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(1, dtype=dtype))

    @staticmethod
    def measure(asked_s: Tensor, ts_s: Tensor) -> Tensor:
        return (asked_s - ts_s).abs() < 86_400

    def forward(self, steps: Tensor, same_day: Tensor) -> Tensor:
        return self.number * same_day


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register both in one place each; a warning that kernels failed is an error."""
    monkeypatch.setitem(ACTIVATIONS, "relu", Relu)
    monkeypatch.setitem(relative_bias.BIASES, "same day", SameDay)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def settings_of(**changed: Any) -> ModelSettings:
    """Return small settings with names that config.py does not list yet."""
    return ModelSettings(dim=32, layers=1, max_len=64).model_copy(update=changed)


def test_it_trains_and_scores_through_the_learner() -> None:
    """Where the next item follows from the last, the hit rate leaves popularity far behind."""
    [log] = make_examples(seed=2, users=30, items=60, count=1200, partitions=1)
    examples = [message for record in log if isinstance(message := decode(record.value or b""), Example)]
    train = TrainSettings(device="cpu", negatives=64, learning_rate=3e-3, window_targets=300)
    learner = Learner(settings_of(attention="relu"), train)
    for start in range(0, len(examples), 8):
        learner.step(examples[start : start + 8])
    rates = {scorer: window.latest().as_dict()["all"]["hr@10"] for scorer, window in learner.metrics.retrieval.items()}
    assert rates["hstu"] > 2 * rates["popularity"]


def test_its_tiles_agree_with_its_definition() -> None:
    """The reference takes `row_weights` from the class, so the tests of all activations cover a new one."""
    options = {"activation": "relu", "alpha": 0.7, "max_len": 12, "num_targets": torch.tensor([4, 0]), "window": 3}
    case = Case([12, 5], [4, 0], 2, 4, 4, options, True, 5, 3, 20)
    assert close([case.run(tiled_attention, case.inputs())], [case.run(reference, case.inputs())], 1e-10)


@pytest.mark.parametrize("changed", [{"attention": "relu"}, {"bias": "same day"}])
@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_an_encoder_takes_the_plain_path(
    changed: dict[str, str], interpreted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 on the CPU, where compiled loops or interpreted kernels are used for the names that they know."""
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(settings_of(**changed), dtype=torch.float32, generator=generator)
    x, ts_ms = torch.randn(30, 32, generator=generator), torch.arange(30) * 7_000_000
    single = encoder(x, offsets_of([20, 10]), ts_ms)
    single.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    double = encoder.double()(x.double(), offsets_of([20, 10]), ts_ms)
    assert torch.allclose(single.double(), double, atol=1e-4)
