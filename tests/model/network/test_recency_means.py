from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.network.recency_means import LAST, RecencyMeans
from stream.example import Kind
from tests.model.attention.attention_cases import offsets_of

DECAYS, DIM = (0.0, 0.5, 0.95), 4


def means() -> RecencyMeans:
    made = RecencyMeans(DIM, DECAYS, dtype=torch.float64)
    made.gain.data = torch.randn(made.gain.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return made


def literal(made: RecencyMeans, content: Tensor, kinds: Tensor, lengths: list[int], query: int) -> Tensor:
    """Return the sum for one query by loops over the last actions of its own sequence."""
    total, first = torch.zeros(DIM, dtype=torch.float64), 0
    for length in lengths:
        if first <= query < first + length:
            acted = [i for i in range(query, first - 1, -1) if kinds[i] == Kind.ACTION][:LAST]
            for s, decay in enumerate(DECAYS):
                if acted:
                    weights = [decay**k for k in range(len(acted))]
                    mean = sum(w * content[i] for w, i in zip(weights, acted, strict=True)) / sum(weights)
                    total = total + made.gain[s] * DIM**0.5 * mean
        first += length
    return total


def batch(lengths: list[int], seed: int, acted: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Return content, kinds and bounds of random sequences."""
    rng = torch.Generator().manual_seed(seed)
    content = torch.randn(sum(lengths), DIM, generator=rng, dtype=torch.float64)
    kinds = torch.where(
        torch.rand(sum(lengths), generator=rng) < acted,
        int(Kind.ACTION),
        torch.randint(0, 3, (sum(lengths),), generator=rng),
    )
    return content, kinds.to(torch.uint8), offsets_of(lengths)


@given(st.lists(st.integers(0, 2 * LAST), min_size=1, max_size=4), st.integers(0, 999), st.sampled_from([0.2, 0.9]))
@settings(max_examples=40, deadline=None)
def test_every_query_has_the_means_computed_by_hand(lengths: list[int], seed: int, acted: float) -> None:
    """At each token, and without history, whatever the kinds of the tokens and however long the sequences."""
    made, (content, kinds, offsets) = means(), batch(lengths, seed, acted)
    query = torch.arange(-1, sum(lengths))
    wanted = [literal(made, content, kinds, lengths, q) for q in query.tolist()]
    assert torch.allclose(made(content, kinds, offsets, query), torch.stack(wanted), atol=1e-12)


def test_later_tokens_and_other_sequences_change_no_bit() -> None:
    """A query is the same alone, in a batch, and whatever comes after it."""
    made, (content, kinds, offsets) = means(), batch([9, 30, 5], 1)
    together = made(content, kinds, offsets, torch.tensor([20]))
    alone = made(content[9:21], kinds[9:21], offsets_of([12]), torch.tensor([11]))
    assert torch.equal(together, alone)


def test_the_gradient_reaches_the_gains_and_the_items_that_were_acted_on() -> None:
    """The last action of a query has one in every scale; an item that was only shown has none."""
    made, (content, kinds, offsets) = means(), batch([6], 2)
    kinds[:] = torch.tensor([Kind.ACTION, Kind.IMPRESSION, Kind.ACTION, Kind.ATTRIBUTE, Kind.ACTION, Kind.ACTION])
    content.requires_grad_()
    made(content, kinds, offsets, torch.tensor([4])).sum().backward()
    assert made.gain.grad is not None
    assert (made.gain.grad != 0).all()
    assert content.grad is not None
    assert content.grad.any(1).tolist() == [True, False, True, False, True, False]


@pytest.mark.parametrize("lengths", [[0], [3]])
def test_users_who_have_not_acted_have_zeros(lengths: list[int]) -> None:
    """Without an action, and without tokens at all."""
    content, kinds, offsets = batch(lengths, 0)
    kinds[:] = int(Kind.IMPRESSION)
    assert not means()(content, kinds, offsets, torch.tensor([-1, sum(lengths) - 1])).any()


def test_the_window_ends_before_older_actions() -> None:
    """The action before the last LAST ones has no effect, the oldest of these has."""
    made, (content, kinds, offsets) = means(), batch([LAST + 1], 0)
    kinds[:], query = int(Kind.ACTION), torch.tensor([LAST])

    def moved(place: int) -> Any:
        other = content.clone()
        other[place] += 1
        return not torch.equal(made(other, kinds, offsets, query), made(content, kinds, offsets, query))

    assert not moved(0)
    assert moved(1)
