from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from model.config import ModelSettings, TrainSettings
from model.data.item_features import ItemFeatures
from model.network.item_vectors import item_vectors
from model.network.retrieval_loss import unit
from model.optim import unit_vectors
from model.optim.parameters import Parameters

ITEMS, FEATURES = 40, 9
MODEL, TRAIN = ModelSettings(dim=8, layers=1, max_len=16), TrainSettings(learning_rate=0.1, device="cpu")


def world(item_rows: int) -> tuple[Parameters, ItemFeatures]:
    features = ItemFeatures(["*"])
    return Parameters(MODEL.model_copy(update={"item_rows": item_rows}), TRAIN, features), features


def by_hand(weights: Parameters, features: ItemFeatures, items: int) -> torch.Tensor:
    """The unit vectors, all computed anew."""
    rows = weights.item_weights()[:items]
    features.grow(items)
    return (
        unit(item_vectors(rows, weights.features.rows, features.bags(np.arange(items)))) if features.any else unit(rows)
    )


rows_of = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=6, unique=True)
values_of = st.lists(st.integers(0, FEATURES - 1), max_size=4, unique=True)
changes = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, ITEMS), st.none()),
    st.tuples(st.just("step"), rows_of, values_of),
    st.tuples(st.just("describe"), rows_of, values_of),
    st.tuples(st.just("clear"), rows_of, st.none()),
    st.tuples(st.just("renew"), rows_of, st.none()),
    st.tuples(st.just("restore"), st.none(), st.none()),
    st.tuples(st.just("ask"), st.integers(1, ITEMS), st.none()),
)


@pytest.mark.parametrize("item_rows", [0, 7])
@given(st.lists(changes, max_size=12))
@settings(deadline=None, max_examples=40)
def test_unit_vectors_are_those_of_the_rows_as_they_are(item_rows: int, done: list[tuple[str, Any, Any]]) -> None:
    """To the bit what computing all of them gives, after any growth, steps, features, deaths and restored states."""
    weights, features = world(item_rows)
    size = 0
    for what, first, second in [("grow", 3, None), *done, ("ask", ITEMS, None)]:
        known = np.array([row for row in first if row < size], np.int64) if isinstance(first, list) else None
        if what == "grow":
            size = max(size, first)
            weights.grow(np.arange(size, dtype=np.uint64), FEATURES)
            features.grow(size)
        elif what == "step":
            gathered = weights.gather(known, np.array(second, np.int64))
            target = torch.arange(gathered.vectors.numel()).view(gathered.vectors.shape).sin()
            loss = (gathered.vectors * target).sum() + gathered.features.leaf.cos().sum()
            weights.descend(loss, gathered)
        elif what == "describe":
            for row in known.tolist():
                features.put(row, np.array(second, np.int64), np.full(len(second), 0.3, np.float32))
        elif what == "clear":
            features.clear(known)
        elif what == "renew" and not item_rows:
            weights.renew_items(known)
        elif what == "restore":
            weights.load_state({name: np.array(array) for name, array in weights.state().items()})
            features.load_state({name: np.array(array) for name, array in features.state().items()})
        elif what == "ask":
            asked = min(first, size)
            assert torch.equal(weights.unit_items(asked), by_hand(weights, features, size)[:asked])


def test_only_what_has_moved_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own row, or the row of a feature that few items have; of a feature that most have, all are, in blocks."""
    weights, features = world(0)
    weights.grow(np.arange(9000, dtype=np.uint64), FEATURES)
    for row in range(9000):
        features.put(row, np.array([row == 7, 2 + row % 2], np.int64), np.ones(2, np.float32))
    weights.unit_items(9000)
    computed: list[int] = []
    inner = unit_vectors.UnitVectors._vectors

    def watched(self: Any, items_n: Any, own_nD: Any = None) -> torch.Tensor:
        computed.append(len(items_n))
        return inner(self, items_n, own_nD)

    monkeypatch.setattr(unit_vectors.UnitVectors, "_vectors", watched)
    for moved_items, moved_features, expected in (
        ([5, 9], [], [2]),
        ([5], [1], [2]),
        ([], [], []),
        ([], [2, 3], [4096, 4096, 808]),
    ):
        weights._units.moved(np.array(moved_items, np.int64), np.array(moved_features, np.int64))
        computed.clear()
        weights.unit_items(9000)
        assert computed == expected
