"""A learner whose items have features of the catalogue in their vectors."""

import numpy as np
import pytest

from model.data.catalogue import ItemRecord
from model.learning.learner import Learner
from stream.example import Example, id_key
from tests.factories import START_MS
from tests.model.learning.test_learner import MODEL, TRAIN, batches, stream

EXAMPLES = stream(count=48)


def record(item: int, ts_ms: int = 0, **features: object) -> ItemRecord:
    return ItemRecord(id_key(f"item {item}"), f"item {item}", None, features, ts_ms)


def catalogue(**more: object) -> list[ItemRecord]:
    return [record(item, parity=item % 2, genres=["a", "b"][: item % 3], **more) for item in range(0, 40, 2)]


def run(learner: Learner, examples: list[Example]) -> None:
    for n, batch in enumerate(batches(examples)):
        learner.learn_items([record(2 * n, START_MS, genres=[f"new {n}"])])
        learner.step(batch)


def test_a_run_goes_on_from_its_state() -> None:
    """A learner that took another's state in mid-stream ends with the same digest, and its features count for it."""
    learners = [Learner(MODEL, TRAIN) for _ in range(3)]
    whole, half, plain = learners
    for learner, examples in zip(learners, (EXAMPLES, EXAMPLES[:24], EXAMPLES), strict=True):
        learner.learn_items(catalogue() if learner is not plain else [])
        run(learner, examples)
    other = Learner(MODEL, TRAIN)
    other.load_state(half.state())
    assert other.digest() == half.digest()
    for n, batch in enumerate(batches(EXAMPLES[24:])):
        other.learn_items([record(2 * n + 6, START_MS, genres=[f"new {n + 3}"])])
        other.step(batch)
    assert other.digest() == whole.digest() != plain.digest()
    assert other.metrics.as_dict() == whole.metrics.as_dict() != plain.metrics.as_dict()


@pytest.mark.parametrize("names", [(), ("*",), ("genre",)])
def test_a_catalogue_without_features_moves_no_bit(names: tuple[str, ...]) -> None:
    """Titles alone, features that are not named, and none at all."""
    found = set()
    for records in ([], [record(n) for n in range(40)], catalogue() if names != ("*",) else []):
        learner = Learner(MODEL.model_copy(update={"item_features": names}), TRAIN)
        learner.learn_items(records)
        for batch in batches(EXAMPLES[:24]):
            learner.step(batch)
        found.add(learner.digest())
    assert len(found) == 1


def test_a_new_item_stands_with_those_of_its_category() -> None:
    """What its category has learnt is in its vector before anybody clicks on it."""
    high_I = np.arange(60) % 40 >= np.where(np.arange(60) < 40, 20, 10)
    learner = Learner(MODEL, TRAIN.model_copy(update={"fuse_counts": False}))
    learner.learn_items([record(item, category=bool(high)) for item, high in enumerate(high_I)])
    for batch in batches(stream(count=160, items=40)):
        learner.step(batch)
    keys_I = np.array([id_key(f"item {item}") for item in range(60)], np.uint64)
    new = np.flatnonzero(learner.items.rows(keys_I) < 0)
    assert len(new) >= 20
    learner.items.admit(keys_I[new], np.full(len(new), START_MS))
    learner.index._describe(learner.items.rows(keys_I[new]))
    learner.weights.grow(learner.items.keys, len(learner.features))
    vectors_ID = learner.weights.unit_items(len(learner.items)).numpy()[learner.items.rows(keys_I)]
    old_I = ~np.isin(np.arange(60), new)
    centre_D = np.stack([vectors_ID[old_I & (high_I == high)].mean(0) for high in (False, True)])
    nearer_high = (vectors_ID[new] @ centre_D.T).argmax(1).astype(bool)
    assert (nearer_high == high_I[new]).mean() > 0.8
