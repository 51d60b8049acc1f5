import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import ModelSettings
from model.network.encoders.bert4rec import Encoder, Layer
from tests.model.attention.attention_cases import golden, offsets_of
from tests.model.network.encoders.loops import check_against_loops
from tests.model.network.encoders.test_transformer import norm

DOUBLE, DIM = torch.float64, 12
_PARTS = ("multi_head_attention", "feed_forward")


def encoder(heads: int = 3, dim: int = DIM) -> Encoder:
    generator = torch.Generator().manual_seed(3)
    settings = ModelSettings(encoder="bert4rec", dim=dim, layers=2, heads=heads, max_len=16)
    made = Encoder(settings, dtype=DOUBLE, generator=generator)
    with torch.no_grad():  # norms and biases that have an effect
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.3)
    return made


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def both_ways(made: Encoder, rows: list[Tensor]) -> list[Tensor]:
    """Return the layers' output of one sequence, with a loop over rows, heads and keys."""
    d = DIM // made.settings.heads
    rows = [row + place for row, place in zip(rows, made.places, strict=False)]
    for layer in made.layers:
        assert isinstance(layer, Layer)
        w_q, w_k, w_v = layer.w_qkv.split(DIM, 1)
        after = []
        for row in rows:
            parts = []
            for h in range(made.settings.heads):
                part = slice(h * d, (h + 1) * d)
                scores = torch.stack([(row @ w_q)[part] @ (key @ w_k)[part] / math.sqrt(d) for key in rows])
                weights = scores.exp() / scores.exp().sum()
                parts.append(sum(w * (key @ w_v)[part] for w, key in zip(weights, rows, strict=True)))
            heads = torch.cat([torch.as_tensor(part) for part in parts])
            a = norm(row + heads @ layer.w_o, layer.norm_attention)
            fed = gelu(a @ layer.w_1 + layer.b_1) @ layer.w_2 + layer.b_2
            after.append(norm(a + fed, layer.norm_feed))
        rows = after
    return rows


def by_hand(made: Encoder, x_nD: Tensor) -> Tensor:
    """Return the output at each token of one sequence: of a [MASK] after it, with nothing behind."""
    masks = [both_ways(made, [*x_nD[: t + 1], made.mask])[-1] for t in range(len(x_nD))]
    return torch.stack([gelu(y @ made.w_p + made.b_p) for y in masks])


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("candidates", [False, True])
def test_it_is_the_papers_equations(heads: int, candidates: bool) -> None:
    """Outputs and the gradients of all weights are those of loops, to 1e-10."""
    made = encoder(heads)
    check_against_loops(made, lambda x: by_hand(made, x), [6, 1, 4], DIM, candidates=candidates)


def test_hidden_tokens_are_read_from_both_sides() -> None:
    """Outputs and gradients are those of loops over the whole sequence; what a hidden token had does not matter."""
    made, lengths = encoder(), [5, 2, 7]
    x = torch.randn(14, DIM, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    hidden, cotangent = torch.arange(14) % 3 == 1, torch.linspace(-1, 1, 14 * DIM, dtype=DOUBLE).view(14, DIM)
    places = torch.cat([torch.arange(n) for n in lengths])
    outputs = [made.both_ways(x, offsets_of(lengths), places, hidden)]
    shown = [made.mask if covered else row for row, covered in zip(x, hidden, strict=True)]
    outputs.append(torch.stack([y for a, b in pairwise([0, 5, 7, 14]) for y in both_ways(made, shown[a:b])]))
    assert torch.allclose(*outputs, rtol=1e-10, atol=1e-10)
    gradients = [
        torch.autograd.grad((out * cotangent).sum(), list(made.parameters()), allow_unused=True) for out in outputs
    ]
    for ours, naive in zip(*gradients, strict=True):
        assert (ours is None) == (naive is None)
        assert ours is None or torch.allclose(ours, naive, rtol=1e-9, atol=1e-9)
    x[hidden] += 1
    assert torch.equal(made.both_ways(x, offsets_of(lengths), places, hidden), outputs[0])


def test_its_layers_are_recboles() -> None:
    """Outputs and gradients of input and weights, by arrays that tests/golden/README.md describes."""
    file, made = golden("bert4rec_layers"), encoder()

    def layout(prefix: str) -> dict[str, Tensor]:
        found = {}
        for n in range(2):
            own, attention, feed = f"layers.{n}.", *(f"{prefix}layer.{n}.{part}." for part in _PARTS)
            names = {"w_o": "dense"}, {"w_1": "dense_1", "w_2": "dense_2"}
            for part, matrices in zip((attention, feed), names, strict=True):
                found |= {own + ours: file[f"{part}{theirs}.weight"].T for ours, theirs in matrices.items()}
            qkv = [file[f"{attention}{name}.weight"].T for name in ("query", "key", "value")]
            found |= {f"{own}w_qkv": torch.cat(qkv, 1)}
            found |= {f"{own}b_{i}": file[f"{feed}dense_{i}.bias"] for i in (1, 2)}
            for norm_name, part in (("norm_attention", attention), ("norm_feed", feed)):
                found |= {f"{own}{norm_name}.{kind}": file[f"{part}LayerNorm.{kind}"] for kind in ("weight", "bias")}
        return found

    made.load_state_dict(layout("") | {"places": torch.zeros_like(made.places)}, strict=False)
    x, lengths = file.leaf("x"), file["lengths"].tolist()
    places = torch.cat([torch.arange(n) for n in lengths])
    out = made.both_ways(x, offsets_of(lengths), places, torch.zeros(len(x), dtype=torch.bool))
    assert torch.allclose(out, file["out"], rtol=1e-10, atol=1e-12)
    wanted, parameters = layout("grad_"), dict(made.named_parameters())
    found = torch.autograd.grad((out * file["weights_of_loss"]).sum(), [x, *(parameters[name] for name in wanted)])
    for ours, theirs in zip(found, [file["grad_x"], *wanted.values()], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_outputs_that_are_not_read_are_not_computed() -> None:
    """Those that are read are the same; the others are zeros, and none may be read."""
    made, x, ts_ms = encoder(), torch.randn(9, DIM, dtype=DOUBLE), torch.arange(9)
    every = made(x, offsets_of([5, 4]), ts_ms, torch.tensor([2, 0]))
    for read in ([3], [0, 4, 8], []):
        at = torch.tensor(read, dtype=torch.int64)
        found = made(x, offsets_of([5, 4]), ts_ms, torch.tensor([2, 0]), read_R=at)
        assert torch.allclose(found[at], every[at], rtol=1e-12, atol=1e-12)
        assert not np.delete(found.detach().numpy(), read, axis=0).any()


def test_starting_weights_are_the_papers() -> None:
    """Matrices are normal and cut off at 0.02; norms begin as the identity, biases at 0."""
    made = Encoder(ModelSettings(dim=64, layers=1), dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    layer = made.layers[0]
    assert isinstance(layer, Layer)
    for matrix in (layer.w_qkv, layer.w_o, layer.w_1, layer.w_2, made.w_p):
        assert 0.019 < matrix.abs().max() <= 0.02
        assert abs(matrix.mean()) < 0.001
    assert not any(bias.any() for bias in (made.b_p, layer.b_1, layer.b_2, layer.norm_feed.bias))
