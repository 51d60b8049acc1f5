from typing import get_args

import pytest
import torch

from model.attention.activations import ACTIVATIONS, activation_named
from model.config import Activation as ActivationName
from model.errors import ModelError
from tests.model.attention.attention_cases import offsets_of, tiled_attention


def test_softmax_weights_of_the_keys_seen_sum_to_one() -> None:
    """Values of one give one at every row: hidden keys have no weight, and candidates see their own key too."""
    q = torch.randn(9, 2, 4, generator=torch.Generator().manual_seed(0))
    options = {"max_len": 9, "alpha": 0.5, "activation": "softmax", "num_targets": torch.tensor([3, 0])}
    out = tiled_attention(q, q, torch.ones(9, 2, 3), offsets_of([7, 2]), **options)
    assert torch.allclose(out, torch.ones_like(out))


def test_silu_over_the_keys_seen_is_a_mean_over_them() -> None:
    """A row's weights are those of "silu" times max_len over the keys that it sees, by window and candidates."""
    q = torch.randn(10, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"max_len": 16, "alpha": 0.5, "num_targets": torch.tensor([3, 0]), "window": 2}
    by_max, by_seen = (
        tiled_attention(q, q, q, offsets_of([7, 3]), activation=a, **options) for a in ("silu", "silu_seen")
    )
    seen = torch.tensor([1, 2, 3, 3, 3, 3, 3, 1, 2, 3], dtype=torch.float64)
    assert torch.allclose(by_seen, by_max * (16 / seen)[:, None, None], rtol=1e-12)


def test_settings_name_the_activations_that_exist() -> None:
    """An activation is of use only if its name may be set; help and error messages list the same names."""
    assert set(get_args(ActivationName)) == set(ACTIVATIONS)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """The sentence lists what exists."""
    with pytest.raises(ModelError, match=f"no attention activation 'relu'; known are {', '.join(ACTIVATIONS)}"):
        activation_named("relu")
