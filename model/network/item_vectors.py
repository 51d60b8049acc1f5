"""An item's vector: its own row plus what its catalogue features add (model/data/item_features.py)."""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from model.data.item_features import Bags


def item_vectors(rows_nD: Tensor, features_FD: Tensor, bags: Bags) -> Tensor:
    """Return the vectors of n items, [n, D].

    Args:
        rows_nD: Their own rows.
        features_FD: Rows of the feature table.
        bags: Which of these each item has.
    """
    if not len(bags.rows):
        return rows_nD
    at_m, weights_m, offsets = (torch.as_tensor(array, device=rows_nD.device) for array in bags)
    added_nD = embedding_bag(
        at_m,
        features_FD,
        offsets,
        mode="sum",
        per_sample_weights=weights_m.to(features_FD.dtype),
        include_last_offset=True,
    )
    return added_nD.add_(rows_nD)
