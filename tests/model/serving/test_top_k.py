import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import model.serving.top_k
from model.serving.top_k import best

scores = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, float("nan")])


@given(st.lists(scores, max_size=40), st.integers(1, 12), st.sets(st.integers(0, 39)), st.sampled_from([1, 3, 8, 64]))
@settings(deadline=None, max_examples=300)
def test_it_is_what_sorting_everything_gives(numbers: list[float], k: int, excluded: set[int], block: int) -> None:
    """Whatever the size of a block: highest first, ties in the items' order, without excluded ones and NaN."""
    wanted = sorted((-x, i) for i, x in enumerate(numbers) if i not in excluded and x == x)[:k]
    skip = np.array(sorted(i for i in excluded if i < len(numbers)), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.serving.top_k, "ROWS", block)
        found, at = best(torch.tensor(numbers).view(-1, 1), torch.ones(1), k, skip)
    assert list(zip((-found).tolist(), at.tolist(), strict=True)) == wanted


def test_a_large_catalogue_whose_scores_rise() -> None:
    """The worst order there is, every block better than the last, over several blocks of the real size."""
    items = torch.arange(150_000, dtype=torch.float32)[:, None]
    found, at = best(items, torch.ones(1), 1000, np.array([149_998]))
    assert at.tolist() == [149_999, *range(149_997, 148_998, -1)]
    assert found.tolist() == at.tolist()
