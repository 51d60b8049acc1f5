from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.attention.bias_terms import bias_terms
from model.attention.cpu.encode import Heads
from model.attention.cpu.extend import Extender
from model.attention.cpu.row_ops import ROWS
from model.config import ModelSettings
from model.network.encoders.hstu import EPS, Encoder
from tests.model.attention.attention_cases import offsets_of

TOKENS, MAX_LEN = 4 * ROWS + 5, 100
KINDS: list[dict[str, Any]] = [
    {"dim": 64, "heads": 2},
    {"dim": 51, "heads": 3, "attention": "softmax", "bias": "functional"},
    {"dim": 40, "heads": 2, "attention": "silu_seen", "bias": "none"},
]


def encoder_of(**settings: Any) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    shape = ModelSettings(layers=2, max_len=MAX_LEN, **settings)
    made = Encoder(shape, dtype=torch.float32, generator=generator).requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def extender_of(encoder: Encoder) -> Extender:
    layers, settings = encoder.own_layers(), encoder.settings
    return Extender(
        layers,
        [bias_terms(layer.bias) for layer in layers],
        Heads(settings.heads, *layers[0].head_widths(), layers[0].alpha, EPS),
        activation=settings.attention,
        bias=settings.bias,
        max_len=settings.max_len,
    )


def tokens(dim: int) -> tuple[torch.Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """Return the input at some tokens, their times, and the times from which they look back."""
    x = torch.randn(TOKENS, dim, generator=torch.Generator().manual_seed(1))
    ts_ms = 10**12 + np.cumsum(np.random.default_rng(2).integers(0, 10**7, TOKENS))
    return x, ts_ms, np.append(ts_ms[1:], ts_ms[-1] + 5000)


def nothing(ours: Extender) -> NDArray[np.float32]:
    return np.empty((2, 0, ours.width), np.float32)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_whole_sequence_is_what_the_encoder_makes_of_it(settings: dict[str, Any]) -> None:
    """Nothing known: the output is that of training's loops."""
    encoder = encoder_of(**settings)
    x, ts_ms, asked_ms = tokens(settings["dim"])
    wanted = encoder(x, offsets_of([TOKENS]), torch.from_numpy(ts_ms), asked_ms_L=torch.from_numpy(asked_ms))
    ours = extender_of(encoder)
    found, state = ours.extend(x, nothing(ours), ts_ms, asked_ms)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert state.shape == (2, TOKENS, ours.width)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_what_is_known_of_earlier_tokens_changes_no_bit(settings: dict[str, Any]) -> None:
    """From any state of whole blocks, made when the sequence was shorter, outputs and states are those of one pass."""
    ours = extender_of(encoder_of(**settings))
    x, ts_ms, asked_ms = tokens(settings["dim"])
    known = nothing(ours)
    for n in (ROWS + 1, 3 * ROWS, 3 * ROWS + 1, TOKENS):
        asked_now_ms = np.append(ts_ms[1:n], asked_ms[n - 1] + n)  # the last token looks back from the request
        whole, whole_state = ours.extend(x[:n], nothing(ours), ts_ms[:n], asked_now_ms)
        for p in range(0, known.shape[1] + 1, ROWS):
            found, state = ours.extend(x[p:n], known[:, :p], ts_ms[:n], asked_now_ms)
            assert torch.equal(found, whole[p:])
            assert np.array_equal(state, whole_state)
        known = whole_state[:, : (n - 1) // ROWS * ROWS]


@pytest.mark.parametrize(("p", "n"), [(ROWS - 1, 40), (ROWS, ROWS), (0, MAX_LEN + 1)])
def test_shapes_that_do_not_fit_are_refused(p: int, n: int) -> None:
    """Loops check no bounds: a part of a block, no new token and too many tokens end in an error."""
    ours = extender_of(encoder_of(dim=64, heads=2))
    times = np.arange(n)
    with pytest.raises(ValueError, match="tokens"):
        ours.extend(torch.zeros(n - p, 64), np.zeros((2, p, ours.width), np.float32), times, times)
