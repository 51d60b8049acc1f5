import numpy as np
import torch

from model.data.item_features import Bags
from model.network.item_vectors import item_vectors


def test_a_vector_is_its_row_plus_the_weighted_rows_of_its_features() -> None:
    """Item by item, as by loops; the gradient of a feature's row is the sum over the items that have it."""
    rng = np.random.default_rng(0)
    rows, features = (torch.tensor(rng.normal(size=(n, 4)), requires_grad=True) for n in (3, 5))
    bags = Bags(np.array([4, 0, 4]), np.array([1, 0.5, 0.25], np.float32), np.array([0, 1, 1, 3]))
    found = item_vectors(rows, features, bags)
    wanted = [rows[0] + features[4], rows[1], rows[2] + 0.5 * features[0] + 0.25 * features[4]]
    assert torch.allclose(found, torch.stack(wanted))
    found.sum().backward()
    assert torch.equal(rows.grad, torch.ones(3, 4, dtype=torch.float64))
    assert torch.allclose(features.grad[:, 0], torch.tensor([0.5, 0, 0, 0, 1.25], dtype=torch.float64))


def test_without_features_it_is_the_row_itself() -> None:
    """No copy is made."""
    rows = torch.ones(2, 3)
    none = Bags(np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(3, np.int64))
    assert item_vectors(rows, rows, none) is rows
