import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, from_dtype

from model.arrays.byte_strings import pack
from model.errors import ModelError
from model.storage.patch import ArrayPatch, Patch, difference, patched, state_digest

dtypes = st.sampled_from([np.dtype(name) for name in ("u1", "i4", "i8", "u8", "f4", "f8", "?")])
any_array = dtypes.flatmap(
    lambda dtype: arrays(
        dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=from_dtype(dtype)
    )
)
states = st.dictionaries(st.sampled_from("abcd"), any_array, max_size=4)


@given(states, states)
def test_a_patch_leads_from_any_arrays_to_any_others(old: dict, new: dict) -> None:
    """To the bit: dtypes, shapes, NaN and the sign of zero included; equal arrays need no patch."""
    patch, parts = difference(old, new)
    after = patched(old, patch, parts)
    assert after.keys() == new.keys()
    assert state_digest(after) == state_digest(new)
    assert difference(new, after) == (Patch({}, ()), {})


def grown(table: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate((table, np.ones((rows, *table.shape[1:]), table.dtype)))


def test_each_kind_of_array_costs_what_changed_in_it() -> None:
    """Rows in place, offsets behind a longer text, pairs inserted among others, a queue that moved on."""
    rng = np.random.default_rng(0)
    texts = [rng.bytes(int(n)) for n in rng.integers(1, 40, 3000)]
    others = [*texts[:700], b"another", *texts[701:]]
    old = {
        "table": rng.normal(size=(3000, 16)).astype(np.float32),
        "bytes": pack(texts)[0],
        "offsets": pack(texts)[1],
        "pairs": rng.random(20_000),
        "queue": rng.integers(0, 2**60, 9000),
        "same": rng.random(9000),
    }
    new = {
        "table": grown(old["table"], 3),
        "bytes": pack(others)[0],
        "offsets": pack(others)[1],
        "pairs": np.insert(old["pairs"], [5, 900, 19_000], 0.5),
        "queue": np.concatenate((old["queue"][40:], np.arange(40))),
        "same": old["same"],
    }
    new["table"][17] = 0
    patch, parts = difference(old, new)
    assert {name: each.how for name, each in patch.changed.items()} == {
        "table": "rows", "bytes": "splice", "offsets": "steps", "pairs": "splice", "queue": "splice",
    }  # fmt: skip
    assert sum(part.nbytes for part in parts.values()) < 2000
    assert state_digest(patched(old, patch, parts)) == state_digest(new)


def test_a_threshold_holds_small_moves_back_and_never_adds_them_up() -> None:
    """A row that creeps is published once it has left what was published by the threshold; ints always are."""
    rng = np.random.default_rng(0)
    true = {"weight": rng.normal(size=(50, 8)), "counts": np.zeros(50, np.int64)}
    published = true
    for step in range(20):
        creep = np.where(np.arange(50)[:, None] % 2, 0.004, 0.0) * np.abs(true["weight"]).max(1, keepdims=True)
        true = {"weight": true["weight"] + creep, "counts": true["counts"] + (np.arange(50) == step)}
        patch, parts = difference(published, true, 0.01)
        published = patched(published, patch, parts)
        off = np.abs(published["weight"] - true["weight"]).max(1)
        assert (off <= 0.01 * np.abs(true["weight"]).max(1)).all()
        assert np.array_equal(published["counts"], true["counts"])
        if step % 3 != 2:
            assert "weight" not in patch.changed


def test_what_a_threshold_lets_pass_at_once() -> None:
    """A row that died, and a number that is not finite, however small the rest of the change is."""
    old = {"w": np.ones((4, 2))}
    new = {"w": np.array([[1.0, 1.001], [0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])}
    _, parts = difference(old, new, 0.1)
    assert parts["w/rows"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("each", "parts", "sentence"),
    [
        (ArrayPatch("rows", "<f4", (5, 9)), {}, r"a table t of <f4 \[5, 9\], and there is <f4 \[5, 8\]"),
        (ArrayPatch("rows", "<f8", (5, 8)), {}, r"a table t of <f8 \[5, 8\], and there is <f4"),
        (ArrayPatch("rows", "<f4", (5, 8)), {}, "damaged: KeyError"),
        (ArrayPatch("rows", "<f4", (5, 8)), {"rows": np.array([9]), "values": np.ones((1, 8))}, "damaged: IndexError"),
        (ArrayPatch("rows", "<f4", (9, 8)), {"rows": np.array([8]), "values": np.ones((1, 8))}, "rows are missing"),
        (ArrayPatch("whole", "<f4", (9, 8)), {"whole": np.ones((1, 8))}, "instead of"),
    ],
    ids=["width", "dtype", "parts", "row", "rows", "shape"],
)  # fmt: skip
def test_a_patch_that_does_not_fit_is_refused(each: ArrayPatch, parts: dict, sentence: str) -> None:
    """A sentence, and the arrays that were there are as they were."""
    old = {"t": np.zeros((5, 8), np.float32)}
    with pytest.raises(ModelError, match=sentence):
        patched(old, Patch({"t": each}, ()), {f"t/{name}": part for name, part in parts.items()})
    assert not old["t"].any()


def test_a_table_that_is_not_there_is_named() -> None:
    """Such as one of a snapshot that fuses nothing."""
    with pytest.raises(ModelError, match=r"a table t of <f4 .*there is no such array"):
        patched({}, Patch({"t": ArrayPatch("rows", "<f4", (1,))}, ()), {})
