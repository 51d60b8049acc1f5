import pytest
import torch

from model.attention.activations import ACTIVATIONS
from model.attention.reference import attention as reference
from tests.model.attention.attention_cases import Case, close, golden, tiled_attention

PATHS = [tiled_attention, reference]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["mha_causal", "mha_targets", "mha_alpha1"])
def test_outputs_and_gradients_are_those_of_the_public_reference(path: object, name: str) -> None:
    """Causal, with candidates and unscaled: equal to 1e-10 in float64."""
    file = golden(name)
    inputs = [file.leaf(x) for x in "qkv"]
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file.get("num_targets")}
    out = path(*inputs, file["seq_offsets"], **options)  # type: ignore[operator]
    grads = torch.autograd.grad((out * file["cot"]).sum(), inputs)
    assert close([out, *grads], [file[x] for x in ("out", "grad_q", "grad_k", "grad_v")], 1e-10)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_pass_gradcheck(path: object, activation: str) -> None:
    """The derivatives of all inputs, the bias included, are those of finite differences."""
    options = {
        "activation": activation,
        "alpha": 0.7,
        "max_len": 8,
        "num_targets": torch.tensor([2, 0, 1]),
        "window": 2,
    }
    case = Case([6, 0, 3], [2, 0, 1], 2, 3, 2, options, True, 1, 2, 12)
    assert torch.autograd.gradcheck(lambda *inputs: case.run(path, list(inputs)), case.inputs())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("change", ["future", "other sequence"])
def test_a_row_does_not_depend_on_what_it_does_not_see(path: object, activation: str, change: str) -> None:
    """Changing keys and values after a row, or in another sequence, leaves its output unchanged, to the bit."""
    options = {"activation": activation, "alpha": 1.0, "max_len": 16, "num_targets": None, "window": 0}
    case = Case([9, 7], [], 2, 4, 4, options, False, 3, 128, 1 << 16)
    q, k, v = (x.detach() for x in case.inputs())
    before = case.run(path, [q, k, v])
    spot, untouched = (
        (slice(5, 9), [*range(5), *range(9, 16)]) if change == "future" else (slice(0, 9), [*range(9, 16)])
    )
    k[spot] += 3.0
    v[spot] -= 5.0
    after = case.run(path, [q, k, v])
    assert torch.equal(before[untouched], after[untouched])
    assert not torch.equal(before, after)
