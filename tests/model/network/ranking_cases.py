"""Ranking models in float64, random histories for them, and the comparison with a literal version.

A literal version takes one candidate at a time (`One`) and goes through the paper's equations in loops.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.config import ModelSettings
from model.network.rankers import RANKERS
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories

DIM, HEADS, ACTIONS = 8, 2, ("click", "like")
LENGTHS = (0, 1, 4, 25)
DOUBLE = torch.float64


class One(NamedTuple):
    """One candidate with the history before its request."""

    behaviours: list[Tensor]
    items: list[int]
    ages: list[float]
    skipped: list[Tensor | None]
    profile: Tensor
    candidate: Tensor
    item: int


Literal = Callable[[RankingModel, One], Tensor]
LiteralLoss = Callable[[RankingModel, list[One], Tensor, Histories], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ranker(name: str, seed: int = 0, dtype: torch.dtype = DOUBLE) -> RankingModel:
    """Return a model whose weights all matter: starting values would hide what the tests look for."""
    shape = ModelSettings(encoder=name, bias="none", dim=DIM, heads=HEADS, rank_actions=ACTIONS)  # type: ignore[arg-type]
    made = RANKERS[name](shape, dtype=dtype, generator=generator(seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(seed + 1), dtype=dtype) * 0.2)
    return made


def case(
    lengths: Sequence[int] = LENGTHS, each: int = 2, seed: int = 0, most: int = 0
) -> tuple[Histories, Candidates, list[Tensor]]:
    """Return requests with histories of these lengths, so many candidates each, and the leaves among the tensors."""
    rng, lengths = generator(seed), [min(length, most or length) for length in lengths]
    r, k = len(lengths), max([1, *lengths])
    there = torch.arange(k) < torch.tensor(lengths, dtype=torch.int64)[:, None]
    was_skipped = there & (torch.rand(r, k, generator=rng) < 0.7)
    leaves = [torch.randn(*shape, DIM, generator=rng, dtype=DOUBLE) for shape in ((r, k), (r, k), (r,), (r * each,))]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    gaps = torch.rand(r, k, generator=rng, dtype=DOUBLE) * 3000
    history = Histories(
        behaviours=leaves[0] * there[..., None],
        items=torch.where(there, torch.randint(-1, 5, (r, k), generator=rng), -1),
        ages=(gaps * there).flip(1).cumsum(1).flip(1) * there,
        there=there,
        skipped=leaves[1] * was_skipped[..., None],
        was_skipped=was_skipped,
        profile=leaves[2],
    )
    items = torch.randint(0, 5, (r * each,), generator=rng)
    items[1::2] = -1  # without a row
    return history, Candidates(leaves[3], items, torch.arange(r).repeat_interleave(each)), leaves


def ones(history: Histories, candidates: Candidates) -> list[One]:
    """Return the candidates one by one."""
    found = []
    for n, r in enumerate(candidates.request.tolist()):
        at = torch.nonzero(history.there[r]).flatten().tolist()
        found.append(
            One(
                behaviours=[history.behaviours[r, k] for k in at],
                items=[int(history.items[r, k]) for k in at],
                ages=[float(history.ages[r, k]) for k in at],
                skipped=[history.skipped[r, k] if history.was_skipped[r, k] else None for k in at],
                profile=history.profile[r],
                candidate=candidates.rows[n],
                item=int(candidates.items[n]),
            )
        )
    return found


def assert_equals(name: str, literal: Literal, lengths: Sequence[int] = LENGTHS) -> None:
    """The model's logits are those of the literal version, and so are the gradients of all weights and inputs."""
    model = ranker(name)
    history, candidates, leaves = case(lengths, most=model.behaviours)
    fast, slow = model(history, candidates), torch.stack([literal(model, one) for one in ones(history, candidates)])
    assert_close([fast], [slow])
    weights = torch.randn(fast.shape, generator=generator(7), dtype=DOUBLE)
    inputs = [*leaves, *model.parameters()]
    assert_close(*(gradients((logits * weights).sum(), inputs) for logits in (fast, slow)))


def assert_loss_equals(name: str, literal: LiteralLoss, lengths: Sequence[int] = LENGTHS) -> None:
    """The same of the model's loss beside that of its logits."""
    model = ranker(name)
    history, candidates, leaves = case(lengths, most=model.behaviours)
    labels = torch.arange(len(candidates.rows) * len(ACTIONS)).view(-1, len(ACTIONS)) % 3 == 0
    fast = model.auxiliary_loss(history, candidates, labels)
    slow = literal(model, ones(history, candidates), labels, history)
    assert fast is not None
    assert_close([fast], [slow])
    inputs = [*leaves, *model.parameters()]
    assert_close(*(gradients(loss, inputs) for loss in (fast, slow)))


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def assert_close(fast: Sequence[Tensor], slow: Sequence[Tensor]) -> None:
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


def dense(layer: nn.Module, x: Tensor) -> Tensor:
    """Return a linear layer's output for one vector."""
    assert isinstance(layer, nn.Linear)
    product = layer.weight @ x
    return product if layer.bias is None else product + layer.bias


def mlp(layers: nn.Module, x: Tensor) -> Tensor:
    """Return the output of linear layers with ReLU between them."""
    assert isinstance(layers, nn.Sequential)
    for layer in layers:
        x = dense(layer, x) if isinstance(layer, nn.Linear) else torch.where(x > 0, x, torch.zeros_like(x))
    return x


def softmax(scores: Sequence[Tensor]) -> list[Tensor]:
    total = sum((score.exp() for score in scores), torch.zeros((), dtype=DOUBLE))
    return [score.exp() / total for score in scores]


def mixed(weights: Sequence[Tensor], vectors: Sequence[Tensor], width: int = DIM) -> Tensor:
    """Return the weighted sum of vectors, zeros without any."""
    pairs = zip(weights, vectors, strict=True)
    return sum((weight * vector for weight, vector in pairs), torch.zeros(width, dtype=DOUBLE))


def mean(vectors: Sequence[Tensor]) -> Tensor:
    return mixed([torch.ones((), dtype=DOUBLE)] * len(vectors), vectors) / max(1, len(vectors))


def heads(x: Tensor) -> list[Tensor]:
    return list(x.split(DIM // HEADS))


def attention(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Return multi-head attention of one query, the heads side by side."""
    parts = []
    for h, q_d in enumerate(heads(q)):
        scores = [(q_d * heads(key)[h]).sum() / math.sqrt(len(q_d)) for key in keys]
        parts.append(mixed(softmax(scores), [heads(value)[h] for value in values], len(q_d)))
    return torch.cat(parts)


def gru_step(w_x: Tensor, b_x: Tensor, w_h: Tensor, b_h: Tensor | None, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return the update gate z, near 1 for the old state as in PyTorch, and the proposed state."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (w_x @ x + b_x).chunk(3), (w_h @ h + (0 if b_h is None else b_h)).chunk(3)
    return torch.sigmoid(x_z + h_z), torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)


def gru(layer: nn.GRU, xs: Sequence[Tensor]) -> list[Tensor]:
    """Return the states of a GRU from 0."""
    h, states = torch.zeros(DIM, dtype=DOUBLE), []
    for x in xs:
        z, new = gru_step(layer.weight_ih_l0, layer.bias_ih_l0, layer.weight_hh_l0, layer.bias_hh_l0, x, h)
        h = z * h + (1 - z) * new
        states.append(h)
    return states


def bucket(age: float) -> int:
    return min(23, math.floor(math.log2(1 + age)))


def fields_of(one: One) -> list[Tensor]:
    last = one.behaviours[-1] if one.behaviours else torch.zeros(DIM, dtype=DOUBLE)
    return [one.candidate, mean(one.behaviours), last, one.profile]
