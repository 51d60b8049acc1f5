import pytest
import torch

from model.attention.bias_terms import bias_terms
from model.attention.cpu import encode
from model.attention.cpu.dispatch import ACTIVATIONS
from tests.model.attention.attention_cases import golden
from tests.model.attention.cpu.cpu_cases import EPS, Case, far_apart
from tests.model.network.encoders.test_hstu import golden_layer, golden_times


@pytest.mark.parametrize("lengths", [[400, 3], [1] * 300, [0, 0, 1]])
def test_groups_of_sequences_of_any_size(lengths: list[int]) -> None:
    """One sequence longer than a group, hundreds that share one, and a single token."""
    case = Case(lengths, 8, 1, 8, 8, 1.0, "silu_seen", "bucketed", 1, 3)
    assert far_apart(case.fast(), case.slow()) < 5e-5


@pytest.mark.parametrize("name", ["research_rel_bias", "research_rel_bias_no_ts"])
def test_a_layer_is_that_of_the_public_reference(name: str) -> None:
    """Output and the gradient of every weight, bias included, to 1e-5 in float32."""
    file = golden(name)
    layer, x = golden_layer(file).float(), file["x"].float().requires_grad_()
    batch = encode.compiled_batch(file["x_offsets"], max_len=file.config["N"], tokens=len(x), activation="silu")
    if layer.bias is not None:
        batch = encode.with_times(batch, *golden_times(file), "bucketed")
    d_v, d_qk = (width // layer.heads for width in layer.widths[1:3])
    heads = encode.Heads(layer.heads, d_qk, d_v, layer.alpha, EPS)
    out = encode.encode(x, batch, heads, [layer], [bias_terms(layer.bias)])
    (out * file["cot"].float()).sum().backward()
    found = {"out": out, "grad_x": x.grad, "grad_w_uvqk": layer.w_uvqk.grad, "grad_w_o": layer.w_out.grad}
    if layer.bias is not None:
        found |= {"grad_rab_pos_w": layer.bias.positions.grad, "grad_rab_ts_w": layer.bias.times.grad}
    for key, value in found.items():
        assert value is not None
        assert far_apart([value.detach()], [file[key]]) < 1e-5, key


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_huge_scores_give_finite_numbers(activation: str) -> None:
    """Scores of some 1e6 saturate: nothing overflows in the exponential, forward or backward."""
    case = Case([30, 20], 8, 1, 8, 8, 1e6, activation, "none", 1, 2)
    assert all(torch.isfinite(x).all() for x in case.fast())
