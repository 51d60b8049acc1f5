"""What holds for every ranking model, found by its file."""

import itertools

import pytest
import torch
from torch import Tensor

from model.network.rankers import RANKERS
from model.network.ranking.history import Candidates, Histories
from tests.model.network.ranking_cases import ACTIONS, case, generator, ranker

every = pytest.mark.parametrize("name", sorted(RANKERS))


def of_request(history: Histories, candidates: Candidates, r: int, padding: int = 0) -> tuple[Histories, Candidates]:
    """Return one request alone with its candidates, padded only so far as is asked for."""
    own, length = candidates.request == r, max(1, int(history.there[r].sum()))

    def column(x: Tensor, empty: float = 0) -> Tensor:
        pad = x.new_full((1, padding, *x.shape[2:]), empty)
        return torch.cat((x[r : r + 1, :length], pad), 1)

    cut = [column(x, -1 if name == "items" else 0) for name, x in history._asdict().items() if name != "profile"]
    zeros = torch.zeros(int(own.sum()), dtype=torch.int64)
    return Histories(*cut, history.profile[r : r + 1]), Candidates(candidates.rows[own], candidates.items[own], zeros)


@every
def test_a_request_does_not_depend_on_its_batch(name: str) -> None:
    """Its logits are those that it has alone, whatever the padding is and however short others' histories are."""
    model = ranker(name)
    history, candidates, _ = case(most=model.behaviours)
    together = model(history, candidates)
    for r, padding in itertools.product(range(len(history.there)), (0, 3)):
        if model.behaviours and history.there.sum(1)[r] + padding > model.behaviours:
            continue
        alone = model(*of_request(history, candidates, r, padding))
        assert torch.allclose(alone, together[candidates.request == r], rtol=1e-9, atol=1e-11)


@every
def test_candidates_together_equal_candidates_one_by_one(name: str) -> None:
    """Candidates do not see each other."""
    model = ranker(name)
    history, candidates, _ = case((0, 1, 6), each=3, most=model.behaviours)
    together = model(history, candidates)
    alone = [model(history, Candidates(*(column[n : n + 1] for column in candidates))) for n in range(len(together))]
    assert together.shape == (9, len(ACTIONS))
    assert torch.allclose(torch.cat(alone), together, rtol=1e-9, atol=1e-11)


@every
def test_history_and_candidate_both_matter(name: str) -> None:
    """Another last behaviour, and another candidate, give other logits."""
    model = ranker(name)
    history, candidates, _ = case((4,), each=1, most=model.behaviours)
    before = model(history, candidates)
    moved = history._replace(behaviours=history.behaviours * torch.tensor([1, 1, 1, -2.0])[:, None])
    if name == "sim_hard":
        candidates = candidates._replace(items=history.items[0, -1:])
        before = model(history, candidates)
    assert not torch.allclose(model(moved, candidates), before)
    assert not torch.allclose(model(history, candidates._replace(rows=-candidates.rows)), before)


@every
def test_weights_come_from_the_generator_alone(name: str) -> None:
    """Equal seeds give equal weights, buffers included; the global generator has no influence and is not used."""
    states = []
    for seed in (4, 4, 5):
        torch.rand(3)
        before = torch.get_rng_state()
        states.append(ranker(name, seed, torch.float32).state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert all(tensor.isfinite().all() for tensor in states[0].values())


@every
@pytest.mark.parametrize("lengths", [(), (0, 0), (1,)])
def test_little_or_no_history_trains(name: str, lengths: tuple[int, ...]) -> None:
    """Without requests, without behaviours, or with one: the shapes hold, and gradients are finite."""
    model = ranker(name)
    history, candidates, leaves = case(lengths)
    logits = model(history, candidates)
    assert logits.shape == (2 * len(lengths), len(ACTIONS))
    loss = model.auxiliary_loss(history, candidates, torch.zeros(logits.shape, dtype=torch.bool))
    (logits.sum() + (0 if loss is None else loss)).backward()
    gradients = [x.grad for x in (*leaves, *model.parameters()) if x.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


@every
def test_a_step_reaches_every_weight_and_repeats_to_the_bit(name: str) -> None:
    """In float32 twice the same gradients, none of which is all zero."""
    runs = []
    for _ in range(2):
        model = ranker(name, dtype=torch.float32)
        history, candidates, _ = case(most=model.behaviours)
        history = Histories(*(x.float() if x.is_floating_point() else x for x in history))
        candidates = candidates._replace(rows=candidates.rows.float())
        logits = model(history, candidates)
        labels = torch.rand(logits.shape, generator=generator(1)) < 0.5
        loss = model.auxiliary_loss(history, candidates, labels)
        (logits.square().sum() + (0 if loss is None else loss)).backward()
        runs.append([logits, *(parameter.grad for parameter in model.parameters())])
        assert all(tensor is not None and tensor.any() for tensor in runs[-1])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
