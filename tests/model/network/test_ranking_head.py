import pytest
import torch
from torch.nn.functional import layer_norm, silu

from model.network.ranking_head import COSINE, Towers, loss

GENERATOR = torch.Generator().manual_seed(0)


def towers(dim: int = 6, actions: int = 3) -> Towers:
    return Towers(dim, actions, dtype=torch.float64, generator=GENERATOR)


def test_all_towers_at_once_equal_each_by_itself() -> None:
    """Logit [t, a] is tower a on the normalised output of target t, its item, and what the item has of the query."""
    made = towers()
    y, query, item = (torch.randn(5, 6, dtype=torch.float64, generator=GENERATOR) for _ in range(3))
    logits = made(y, query, item)
    assert logits.shape == (5, 3)
    cosine = COSINE * (query * item).sum(1)[:, None]
    x = torch.cat((layer_norm(y, (6,)), item * 6**0.5, query * item * 6, cosine), 1)
    for a in range(3):
        hidden = silu(x @ made.w_in[a] + made.b_in[a])
        assert torch.allclose(logits[:, a], (hidden @ made.w_out[a] + made.b_out[a])[:, 0])


def test_the_loss_is_a_mean_over_targets_and_a_sum_over_actions() -> None:
    """At logit 0 every action costs ln 2; labels may be booleans."""
    nothing_known = loss(torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.bool))
    assert torch.isclose(nothing_known, 3 * torch.tensor(2.0).log())
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    by_hand = -torch.log(torch.sigmoid(logits[0, 0])) - torch.log(1 - torch.sigmoid(logits[0, 1]))
    assert torch.isclose(loss(logits, labels), by_hand)


@pytest.mark.parametrize(("targets", "actions"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_rank_costs_nothing(targets: int, actions: int) -> None:
    """Without targets or actions the loss is 0, not NaN, and backward runs."""
    y = torch.ones(targets, 6, dtype=torch.float64, requires_grad=True)
    logits = towers(actions=actions)(y, y.detach(), y.detach())
    cost = loss(logits, torch.zeros(targets, actions))
    cost.backward()
    assert logits.shape == (targets, actions)
    assert cost.item() == 0


def test_towers_start_unlike_one_another() -> None:
    """Each action starts with different weights."""
    made = towers()
    assert not torch.equal(made.w_in[0], made.w_in[1])
