from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.network.retrieval_loss import sampled_softmax, unit

T, K, D = 5, 7, 4


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NO_HITS = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)


def inputs(hits: list[tuple[int, int]] = ()) -> dict[str, Any]:  # type: ignore[assignment]
    pairs = torch.tensor(hits, dtype=torch.int64).reshape(-1, 2)
    names = {"queries_TD": unit(rand(T, D)), "positives_TD": rand(T, D, seed=1), "negatives_KD": rand(K, D, seed=2)}
    return {**names, "log_q_K": rand(K, seed=4), "hits": tuple(pairs.T)}


def test_the_loss_is_its_formula_target_by_target() -> None:
    """Negatives are corrected, hits are left out, the mean is over targets."""
    hits = [(0, 2), (3, 3), (3, 4)]
    given = inputs(hits)
    losses = []
    for t in range(T):
        query, positive = given["queries_TD"][t], normalize(given["positives_TD"][t], dim=0)
        own = torch.exp(query @ positive / 0.1)
        others = [
            torch.exp(query @ normalize(given["negatives_KD"][k], dim=0) / 0.1 - given["log_q_K"][k])
            for k in range(K)
            if (t, k) not in hits
        ]
        losses.append(-torch.log(own / (own + sum(others))))
    assert torch.allclose(sampled_softmax(**given, temperature=0.1), torch.stack(losses).mean())
    mixed = -torch.log((torch.exp(-torch.stack(losses)) + 0.2) / 1.2)
    assert torch.allclose(sampled_softmax(**given, temperature=0.1, noise=0.2), mixed.mean())


def test_a_target_that_cannot_be_foreseen_moves_nothing() -> None:
    """Where its share is 0 in floats, the mixture has no gradient, and the softmax has a whole one."""
    given = {name: value.float() if name != "hits" else value for name, value in inputs().items()}
    given["positives_TD"] = -given["queries_TD"]
    given["negatives_KD"] = given["queries_TD"].clone()
    given |= {"log_q_K": torch.zeros(T), "hits": NO_HITS}
    for noise in (0.0, 0.1):
        query = given["queries_TD"].clone().requires_grad_()
        loss = sampled_softmax(**given | {"queries_TD": query}, temperature=0.01, noise=noise)
        loss.backward()
        assert loss.isfinite()
        assert query.grad is not None
        assert query.grad.isfinite().all()
        assert bool(query.grad.any()) == (noise == 0)


def test_gradients_are_those_of_the_formula() -> None:
    """Numerical differentiation agrees for queries, positives and negatives, with hits and without."""
    for hits, noise in (([], 0.0), ([(0, 2), (3, 3)], 0.0), ([(1, k) for k in range(K)], 0.0), ([(0, 2)], 0.3)):
        given = inputs(hits)
        vectors = [given[name].requires_grad_() for name in ("queries_TD", "positives_TD", "negatives_KD")]

        def loss(q: Tensor, p: Tensor, n: Tensor, given: dict[str, Any] = given, noise: float = noise) -> Tensor:
            changed = given | {"queries_TD": q, "positives_TD": p, "negatives_KD": n}
            return sampled_softmax(**changed, temperature=0.3, noise=noise)

        assert torch.autograd.gradcheck(loss, vectors)


def test_a_target_whose_negatives_are_all_hits_costs_nothing() -> None:
    """Without a negative the loss is 0, and gradients have no NaN."""
    given = inputs([(t, k) for t in range(T) for k in range(K)])
    given["negatives_KD"].requires_grad_()
    loss = sampled_softmax(**given, temperature=0.05)
    loss.backward()
    assert torch.allclose(loss, torch.zeros((), dtype=torch.float64), atol=1e-12)
    assert given["negatives_KD"].grad is not None
    assert not given["negatives_KD"].grad.any()


def test_a_batch_without_targets_has_loss_zero() -> None:
    """The loss is 0, not NaN, and can be differentiated."""
    given = inputs() | {"queries_TD": rand(0, D).requires_grad_(), "positives_TD": rand(0, D)}
    loss = sampled_softmax(**given, temperature=0.05)
    loss.backward()
    assert loss.item() == 0


def test_unit_vectors_near_zero_stay_finite() -> None:
    """A vector of zeros stays zero, others get length one."""
    assert unit(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist() == [
        [0.0, 0.0],
        [0.6000000238418579, 0.800000011920929],
    ]
