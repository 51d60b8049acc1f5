import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex
from model.data.item_features import MAX_VALUES, ItemFeatures
from model.keys.lives import Limits
from stream.example import id_key
from tests.laws import START_MS
from tests.model.data.test_entity_index import clicked

numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)


def described(item: str, ts_ms: int = START_MS, **features: object) -> ItemRecord:
    return ItemRecord(id_key(item), item, None, features, ts_ms)


def keys_of(feature: object) -> set[int]:
    return set(ItemFeatures(["*"]).values({"f": feature})[0].tolist())


def values_of(index: EntityIndex, item: str) -> dict[int, float]:
    """Return the values of an item: the weight of each by its key."""
    [row] = index.items.rows(np.array([id_key(item)], np.uint64))
    bags = index.item_features.bags(np.array([row]))
    return dict(zip(index.features.keys[bags.rows].tolist(), bags.weights.tolist(), strict=True))


def by_hand(index: EntityIndex, **features: object) -> dict[int, float]:
    keys, weights = index.item_features.values(features)
    return dict(zip(keys.tolist(), weights.tolist(), strict=True))


def test_each_feature_adds_the_mean_of_its_values() -> None:
    """A text weighs 1, each of three genres a third, each of a number's roundings a third; repeats count once."""
    keys, weights = ItemFeatures(["*"]).values(
        {"none": [], "kind": "x", "genres": ["a", "b", "c", "a"], "year": 1998, "new": True}
    )
    assert weights.tolist() == pytest.approx([1 / 3] * 3 + [1, 1] + [1 / 3] * 3)
    assert len(set(keys.tolist())) == 8


def test_values_of_different_features_and_kinds_differ() -> None:
    """The text 1, the number 1 and true, and the same value of another feature, are four values."""
    found = [keys_of(1), keys_of("1"), keys_of(True), set(ItemFeatures(["*"]).values({"g": "1"})[0].tolist())]
    assert len(set.union(*found)) == sum(map(len, found))


@given(numbers)
def test_a_number_has_a_value_for_each_rounding(number: float) -> None:
    """At least one and at most three on any scale; its sign tells it apart."""
    assert 1 <= len(keys_of(number)) <= 3
    assert number == 0 or not keys_of(number) & keys_of(-number)


def test_near_numbers_share_their_coarse_values() -> None:
    """1998 and 1999 are alike, 1998 and 1990 share what is rounded to 6 bits, 1998 and 1890 share nothing."""
    assert keys_of(1998) == keys_of(1999) == keys_of(1998.0)
    assert len(keys_of(1998) & keys_of(1990)) == 2
    assert not keys_of(1998) & keys_of(1890)


def test_only_named_features_count() -> None:
    """Others are passed over, and none counts by default."""
    both = {"a": "x", "b": "y"}
    assert len(ItemFeatures(["b"]).values(both)[0]) == 1
    assert not ItemFeatures().used
    assert not len(ItemFeatures().values(both)[0])


def test_what_cannot_count_is_said() -> None:
    """Long texts and too many values have no row; a sentence names their feature, and one that no item has."""
    features = ItemFeatures(["text", "tags", "genre"])
    keys, _ = features.values({"text": "x" * 65, "tags": [str(n) for n in range(MAX_VALUES + 2)]})
    assert len(keys) == MAX_VALUES
    said = features.complaints()
    assert "tags of the catalogue: 2 values count for nothing" in said["tags"]
    assert "text of the catalogue: 1 values" in said["text"]
    assert "names genre, which no item has so far; the catalogue has tags, text" in said["genre"]
    assert not ItemFeatures(["*"]).complaints()


def test_items_have_the_values_of_the_newest_record() -> None:
    """Whether it comes before or after their first token; a withdrawn item keeps them, an unknown one has none."""
    index = EntityIndex(item_features=["*"])
    index.learn_items([described("a", genre="x"), described("never", genre="y")])
    index.take_in([clicked(["a", "b"], [START_MS, START_MS])])
    assert len(index.features) == 2  # the action, and the genre of an item that has a row
    assert values_of(index, "a") == by_hand(index, genre="x")
    assert values_of(index, "b") == {}
    index.learn_items([described("b", genre=["x", "z"]), described("a", START_MS + 1, genre="w")])
    assert values_of(index, "a") == by_hand(index, genre="w")
    assert values_of(index, "b") == by_hand(index, genre=["x", "z"])
    index.learn_items([Tombstone(id_key("a"), "a", START_MS + 2), described("b", START_MS - 1)])
    assert values_of(index, "a") == by_hand(index, genre="w")
    assert values_of(index, "b") == by_hand(index, genre=["x", "z"])


def test_a_row_that_is_used_again_has_no_values_of_the_dead() -> None:
    """Its next item has those of its own record, or none."""
    day_ms = 86_400_000
    index = EntityIndex(limits=Limits(ttl_ms=day_ms), item_features=["*"])
    index.learn_items([described("a", genre="x"), described("b", genre="x"), described("c", genre="z")])
    index.take_in([clicked(["a", "b"], [START_MS, START_MS])])
    taken = index.take_in([clicked(["c", "d"], [START_MS + 9 * day_ms] * 2)])
    assert len(taken.died) == len(taken.renewed) == 2
    assert values_of(index, "c") == by_hand(index, genre="z")
    assert values_of(index, "d") == {}


def test_values_survive_in_a_state() -> None:
    """An index that took another's state has its values, and gives the same rows to what comes next."""
    index, other = (EntityIndex(item_features=["*"]) for _ in range(2))
    index.learn_items([described("a", genre="x", year=1998)])
    index.take_in([clicked(["a", "b"], [START_MS, START_MS])])
    other.load_state(index.state())
    for each in (index, other):
        each.learn_items([described("c", genre=["x", "y"])])
        each.take_in([clicked(["c", "a", "d"], [START_MS] * 3)])
    assert all(np.array_equal(array, other.state()[name]) for name, array in index.state().items())
    assert values_of(other, "a") == by_hand(other, genre="x", year=1998)
