from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.data.item_features import Bags
from model.network.encoders.value_loss import value_loss, values_of

DOUBLE, DIM, ROWS = torch.float64, 4, 6


def literal(q: Tensor, features: Tensor, own: Sequence[int], compared: Iterable[int]) -> Tensor:
    """Return the loss of one prediction, value by value."""
    losses = []
    for a in own:
        others = [torch.exp(q @ features[b]) for b in compared if b not in own]
        losses.append(-torch.log(torch.exp(q @ features[a]) / (torch.exp(q @ features[a]) + sum(others))))
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=DOUBLE)


@given(
    items=st.lists(st.lists(st.integers(0, ROWS - 1), unique=True, max_size=4), min_size=1, max_size=5),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_it_is_infonce_over_the_values_of_negatives(items: list[list[int]], data: st.DataObject) -> None:
    """Value and gradients; an item without values has no loss, nor has one whose values alone are compared."""
    places = st.lists(st.integers(0, len(items) - 1), max_size=4)
    asked, negatives = data.draw(places), data.draw(places)
    offsets = np.cumsum([0, *map(len, items)])
    bags = Bags(np.array([*chain(*items)], np.int64), np.ones(offsets[-1], np.float32), offsets)
    generator = torch.Generator().manual_seed(0)
    q, features = (
        torch.randn(rows, DIM, dtype=DOUBLE, generator=generator).requires_grad_() for rows in (len(asked), ROWS)
    )
    found = value_loss(q, features, values_of(bags, np.array(asked, np.int64), np.array(negatives, np.int64)))
    compared = sorted({value for item in negatives for value in items[item]})
    wanted = [literal(q[n], features, items[item], compared) for n, item in enumerate(asked)]
    assert found.shape == (len(asked),)
    if asked:
        assert torch.allclose(found, torch.stack(wanted), rtol=1e-12, atol=1e-12)
    total = torch.stack(wanted).sum() if asked else q.sum()
    gradients = [
        torch.autograd.grad(out, (q, features), allow_unused=True) for out in (found.sum(), total + 0 * q.sum())
    ]
    for ours, naive in zip(*gradients, strict=True):
        assert torch.allclose(
            *(torch.zeros(1, dtype=DOUBLE) if each is None else each for each in (ours, naive)), atol=1e-12
        )
