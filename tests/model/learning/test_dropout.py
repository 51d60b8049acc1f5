import numpy as np
import pytest
import torch

from model.learning.dropout import Dropout


def dropout(input_rate: float = 0.3, output_rate: float = 0.1, seed: int = 0) -> Dropout:
    return Dropout(input_rate, output_rate, np.random.Generator(np.random.Philox(seed)))


def test_elements_are_dropped_at_their_rates_and_the_mean_stays() -> None:
    """Of 100,000 ones a share of the rate becomes 0, and the others are scaled to a mean of 1."""
    ones, made = torch.ones(1000, 100), dropout()
    for found, rate in ((made.input(ones, slice(None), 1000), 0.3), (made.output(ones, slice(None), 1000), 0.1)):
        assert found.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
        assert (found == 0).float().mean().item() == pytest.approx(rate, abs=0.005)


def test_equal_generators_drop_the_same_and_calls_differ() -> None:
    """The masks are a function of the generator and the order of the calls."""
    x = torch.randn(5, 40)
    one, other = dropout(seed=1), dropout(seed=1)
    first, second = one.input(x, slice(None), 5), one.input(x, slice(None), 5)
    assert torch.equal(other.input(x, slice(None), 5), first)
    assert not torch.equal(first, second)


def test_a_rate_of_zero_drops_nothing() -> None:
    """The bits stay."""
    x = torch.randn(5, 40)
    assert torch.equal(dropout(0.0, 0.0).output(dropout(0.0, 0.0).input(x, slice(None), 5), slice(None), 5), x)


def test_shares_together_drop_what_the_whole_drops() -> None:
    """Two ranks that take a part of the tokens each have the masks of one that takes all."""
    x = torch.randn(5, 40)
    parts = [dropout().input(x[share], share, 5) for share in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat(parts), dropout().input(x, slice(None), 5))
