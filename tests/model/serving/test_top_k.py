import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import model.serving.top_k
from model.network.retrieval_loss import unit
from model.serving.top_k import Extra, best, rounded
from tests.strategies import tries

scores = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, float("nan")])


@given(st.lists(scores, max_size=40), st.integers(1, 12), st.sets(st.integers(0, 39)), st.sampled_from([1, 3, 8, 64]))
@settings(deadline=None, max_examples=tries(300))
def test_it_is_what_sorting_everything_gives(numbers: list[float], k: int, excluded: set[int], block: int) -> None:
    """Whatever the size of a block: highest first, ties in the items' order, without excluded ones and NaN."""
    wanted = sorted((-x, i) for i, x in enumerate(numbers) if i not in excluded and x == x)[:k]
    skip = np.array(sorted(i for i in excluded if i < len(numbers)), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.serving.top_k, "ROWS", block)
        found, at = best(torch.tensor(numbers).view(-1, 1), torch.ones(1), k, skip)
    assert list(zip((-found).tolist(), at.tolist(), strict=True)) == wanted


@given(st.lists(st.tuples(scores, st.integers(-3, 3), st.integers(-3, 3)), max_size=20), st.sampled_from([1, 3, 64]))
@settings(deadline=None)
def test_what_is_added_counts(numbers: list[tuple[float, int, int]], block: int) -> None:
    """To every item, and more to some of them, in whichever block they are."""
    products, every, more = ([row[i] for row in numbers] for i in range(3))
    some = np.array([i for i, _ in enumerate(numbers) if i % 2], np.int64)
    extra = Extra(np.array(every, np.float32), some, np.array(more, np.float32)[some])
    sums = [x + every[i] + (more[i] if i % 2 else 0) for i, x in enumerate(products)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.serving.top_k, "ROWS", block)
        none = np.empty(0, np.int64)
        found, at = best(torch.tensor(products).view(-1, 1), torch.ones(1), 5, none, extra)
    wanted = sorted((-x, i) for i, x in enumerate(sums) if x == x)[:5]
    assert list(zip((-found).tolist(), at.tolist(), strict=True)) == wanted


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 9), st.sampled_from([1e-3, 1.0, 40.0]), st.booleans())
@settings(deadline=None)
def test_a_bound_by_bytes_changes_no_bit(seed: int, width: int, k: int, size: float, close: bool) -> None:
    """Scores, ties and exclusions are those of multiplying all, whatever is added, also where all items are alike."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(60, width)) * (0.01 if close else 1) + (1 if close else 0)
    items_VD = unit(torch.tensor(items, dtype=torch.float32))
    items_VD[rng.integers(60, size=9)] = items_VD[rng.integers(60, size=9)]
    query_D = torch.tensor(size * rng.normal(size=width), dtype=torch.float32)
    excluded, at = (np.flatnonzero(rng.random(60) < 0.2) for _ in range(2))
    extra = Extra((size * rng.normal(size=60)).astype(np.float32), at, rng.normal(size=len(at)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.serving.top_k, "ROWS", 8)
        coarse = rounded(items_VD)
        assert coarse is not None
        for added in (None, extra):
            wanted = best(items_VD, query_D, k, excluded, added)
            found = best(items_VD, query_D, k, excluded, added, coarse)
            assert [part.tolist() for part in found] == [part.tolist() for part in wanted]


def test_few_items_are_multiplied_where_bytes_bound_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of later blocks only those that may be among the best: here less than a twentieth."""
    generator = torch.Generator().manual_seed(0)
    items_VD = unit(torch.randn(20_000, 64, generator=generator))
    multiplied, multiply = [], model.serving.top_k._multiply

    def counted(scores: np.ndarray, items: np.ndarray, query: np.ndarray) -> None:
        multiplied.append(len(items))
        multiply(scores, items, query)

    monkeypatch.setattr(model.serving.top_k, "ROWS", 1000)
    monkeypatch.setattr(model.serving.top_k, "_multiply", counted)
    best(items_VD, torch.randn(64, generator=generator), 10, np.empty(0, np.int64), coarse=rounded(items_VD))
    assert multiplied[0] == 1000
    assert sum(multiplied[1:]) < 19_000 / 20


def test_a_large_catalogue_whose_scores_rise() -> None:
    """The worst order there is, every block better than the last, over several blocks of the real size."""
    items = torch.arange(150_000, dtype=torch.float32)[:, None]
    found, at = best(items, torch.ones(1), 1000, np.array([149_998]))
    assert at.tolist() == [149_999, *range(149_997, 148_998, -1)]
    assert found.tolist() == at.tolist()
