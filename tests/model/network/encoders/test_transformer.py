import math

import pytest
import torch
from torch import Tensor

from model.config import ModelSettings
from model.network.encoders.transformer import Encoder, Layer, Norm
from tests.model.network.encoders.loops import check_against_loops

DOUBLE, DIM = torch.float64, 12


def encoder(heads: int) -> Encoder:
    generator = torch.Generator().manual_seed(3)
    settings = ModelSettings(encoder="transformer", dim=DIM, layers=2, heads=heads, max_len=16)
    made = Encoder(settings, dtype=DOUBLE, generator=generator)
    with torch.no_grad():  # norms and biases that have an effect
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.3)
    return made


def norm(x: Tensor, made: Norm) -> Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-8) * made.weight + made.bias


def by_hand(made: Encoder, x_nD: Tensor, *, causal: bool = True) -> Tensor:
    """Return the output of one sequence, with a loop over rows, heads and keys."""
    heads, d = made.settings.heads, DIM // made.settings.heads
    for layer in made.layers:
        assert isinstance(layer, Layer)
        w_q, w_k, w_v = layer.w_qkv.split(DIM, 1)
        normed = [norm(x, layer.norm_attention) for x in x_nD]
        attended = []
        for i, row in enumerate(normed):
            keys, parts = normed[: i + 1] if causal else normed, []
            for h in range(heads):
                part = slice(h * d, (h + 1) * d)
                q = (row @ w_q)[part]
                scores = torch.stack([q @ (key @ w_k)[part] / math.sqrt(d) for key in keys])
                weights = scores.exp() / scores.exp().sum()
                parts.append(sum(w * (key @ w_v)[part] for w, key in zip(weights, keys, strict=True)))
            attended.append(x_nD[i] + torch.cat([torch.as_tensor(part) for part in parts]))
        fed = [torch.clamp(norm(x, layer.norm_feed) @ layer.w_1 + layer.b_1, min=0) for x in attended]
        x_nD = torch.stack([x + y @ layer.w_2 + layer.b_2 for x, y in zip(attended, fed, strict=True)])
    return torch.stack([norm(x, made.norm) for x in x_nD])


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("candidates", [False, True])
def test_it_is_the_papers_equations(heads: int, candidates: bool) -> None:
    """Outputs and the gradients of all weights are those of loops, to 1e-10, on both paths of the attention."""
    made = encoder(heads)
    check_against_loops(made, lambda x: by_hand(made, x), [6, 1, 4], DIM, candidates=candidates)


def test_starting_weights_are_glorots() -> None:
    """Each square matrix is uniform in +-sqrt(6 / 2D); norms begin as the identity."""
    made = Encoder(ModelSettings(dim=64, layers=1), dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    layer = made.layers[0]
    assert isinstance(layer, Layer)
    bound = math.sqrt(6 / 128)
    for matrix in (*layer.w_qkv.split(64, 1), layer.w_1, layer.w_2):
        assert 0.95 * bound < matrix.abs().max() <= bound
        assert matrix.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert torch.equal(made.norm.weight, torch.ones(64, dtype=DOUBLE))
    assert not any(bias.any() for bias in (made.norm.bias, layer.b_1, layer.b_2))
