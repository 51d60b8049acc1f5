"""Layers of ranking models against public implementations: the arrays that tests/golden/README.md describes."""

import torch
from torch import Tensor, nn

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from tests.model.attention.attention_cases import Golden, golden
from tests.model.network.ranking_cases import DIM, ranker


def requests(behaviours: Tensor, lengths: Tensor, candidates: Tensor, profile: Tensor) -> tuple[Histories, Candidates]:
    """Return requests of one candidate each."""
    n, k = behaviours.shape[:2]
    there, whole = torch.arange(k) < lengths[:, None], torch.zeros(n, k)
    history = Histories(
        behaviours=behaviours * there[..., None],
        items=whole.long(),
        ages=whole.double(),
        there=there,
        skipped=torch.zeros_like(behaviours),
        was_skipped=whole.bool(),
        profile=profile,
    )
    return history, Candidates(candidates, torch.zeros(n, dtype=torch.int64), torch.arange(n))


def model_with(name: str, weights: dict[str, Tensor]) -> RankingModel:
    """Return a model with some weights, whose last MLP returns its input."""
    model = ranker(name)
    model.load_state_dict(weights, strict=False)
    assert not set(weights) - set(model.state_dict())
    model.mlp = nn.Identity()
    return model


def agrees(
    file: Golden, out: Tensor, pairs: dict[str, Tensor], model: RankingModel, weights: dict[str, Tensor]
) -> None:
    """Compare outputs, gradients of inputs, and gradients of weights, both in the file's layout."""
    assert torch.allclose(out, file["out"], rtol=1e-10, atol=1e-12)
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(
        (out * file["weights_of_loss"]).sum(), [*pairs.values(), *(parameters[n] for n in weights)]
    )
    wanted = [file[f"grad_{name}"] for name in pairs] + list(weights.values())
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs.view_as(ours), rtol=1e-9, atol=1e-11)


def test_dins_attention_is_deepctrs() -> None:
    """Their unit reads [c, e, c - e, c * e] and has one slope for all; ours reads [e, c, e - c, e * c]."""
    file = golden("din_attention")

    def layout(prefix: str) -> dict[str, Tensor]:
        q, k, less, product = file[f"{prefix}local_att.dnn.linears.0.weight"].chunk(4, 1)
        return {
            "unit_in.weight": torch.cat((k, q, -less, product), 1),
            "unit_in.bias": file[f"{prefix}local_att.dnn.linears.0.bias"],
            "unit_out.weight": file[f"{prefix}local_att.dense.weight"],
            "unit_out.bias": file[f"{prefix}local_att.dense.bias"],
        }

    slope = next(file[name] for name in file.arrays if "activation" in name and not name.startswith("grad_"))
    model = model_with("din", layout("") | {"slopes.0": slope.expand(36)})
    query, keys = file.leaf("query"), file.leaf("keys")
    asked = requests(keys, file["lengths"], query[:, 0], torch.zeros(len(query), DIM).double())
    out = model.interest(*asked)[:, None]  # type: ignore[operator]
    agrees(file, out, {"query": query, "keys": keys}, model, layout("grad_"))


def test_diens_interest_is_torch_rechubs() -> None:
    """Their matrices stand to the right of the input, gate by gate."""
    file = golden("dien_evolution")

    def layout(prefix: str) -> dict[str, Tensor]:
        x, h, b = (
            torch.cat([file[f"{prefix}augru_cell.{kind}{gate}"].T for gate in ("r", "u", "h")])
            for kind in ("W", "U", "b")
        )
        own = {
            f"extractor.{n}_l0": file[f"{prefix}gru.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        own |= {"x_gates.weight": x, "h_gates.weight": h, "x_gates.bias": b.flatten()}
        return own | {"w_attention.weight": file[f"{prefix}Wa"]}

    model = model_with("dien", layout(""))
    behaviours, item = file.leaf("behaviours"), file.leaf("item")
    out = model(*requests(behaviours, file["lengths"], item, torch.zeros_like(item)))[:, :DIM]
    agrees(file, out, {"behaviours": behaviours, "item": item}, model, layout("grad_"))


def test_senets_products_are_deepctrs() -> None:
    """Of fields whose mean and last behaviour come from two behaviours."""
    file = golden("senet_products")

    def layout(prefix: str) -> dict[str, Tensor]:
        products = {
            f"w_{part}": torch.stack([file[f"{prefix}{part}.bilinear.{i}.weight"].T for i in range(3)])
            for part in ("fields", "gated")
        }
        gates = {"squeezed.weight": "se.excitation.0.weight", "excited.weight": "se.excitation.2.weight"}
        return products | {ours: file[prefix + theirs] for ours, theirs in gates.items()}

    model = model_with("senet", layout("") | {"excited.bias": torch.zeros(4).double()})
    fields = file.leaf("fields")
    candidate, mean, last, profile = fields.unbind(1)
    behaviours = torch.stack((2 * mean - last, last), 1)
    out = model(*requests(behaviours, torch.full((len(fields),), 2), candidate, profile)).unflatten(1, (-1, DIM))
    agrees(file, out, {"fields": fields}, model, layout("grad_"))
