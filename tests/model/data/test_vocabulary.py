import doctest
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, strategies as st
from xxhash import xxh3_128

import model.data.vocabulary
from model.data.vocabulary import Vocabulary
from model.errors import ModelError
from stream.example import NO_KEY

keys = st.integers(1, 6) | st.integers(2**64 - 3, 2**64 - 1)
times_ms = st.integers(0, 30)
texts = st.sampled_from(["", "a", "b", "ø€𝄞"])
calls = st.lists(
    st.tuples(st.just("admit"), st.lists(st.tuples(keys, times_ms), max_size=6))
    | st.tuples(st.just("text"), st.tuples(keys, texts))
    | st.tuples(st.just("withdraw"), st.tuples(keys, times_ms))
    | st.tuples(st.just("restore"), keys),
    max_size=12,
)
Calls = list[tuple[str, object]]


@dataclass
class Oracle:
    """A vocabulary of dictionaries; every key's withdrawal is kept, known or not."""

    born_ms: dict[int, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    collisions: int = 0

    def call(self, name: str, argument: object) -> None:
        match name, argument:
            case "admit", list(tokens):
                for key, ts_ms in tokens:
                    self.born_ms[key] = min(ts_ms, self.born_ms.get(key, ts_ms))
            case "text", (int(key), str(text)) if key in self.born_ms:
                kept = self.texts[key] = self.texts.get(key) or text
                self.collisions += kept != text
            case "withdraw", (int(key), int(ts_ms)):
                self.withdrawn[key] = ts_ms
            case "restore", int(key):
                self.withdrawn.pop(key, None)


def call(vocabulary: Vocabulary, name: str, argument: object) -> None:
    match name, argument:
        case "admit", list(tokens):
            columns = [list(column) for column in zip(*tokens, strict=True)] or [[], []]
            rows = vocabulary.admit(np.array(columns[0], np.uint64), np.array(columns[1], np.int64))
            assert vocabulary.keys[rows].tolist() == columns[0]
        case "text", (int(key), str(text)):
            vocabulary.learn_texts([key], [text])
        case "withdraw", (int(key), int(ts_ms)):
            vocabulary.withdraw(key, ts_ms)
        case "restore", int(key):
            vocabulary.restore(key)


def after(every: Calls) -> tuple[Vocabulary, Oracle]:
    vocabulary, oracle = Vocabulary(), Oracle()
    for each in every:
        call(vocabulary, *each)
        oracle.call(*each)
    return vocabulary, oracle


def digest(vocabulary: Vocabulary) -> str:
    hasher = xxh3_128()
    vocabulary.digest_update(hasher)
    return hasher.hexdigest()


def agree(vocabulary: Vocabulary, oracle: Oracle) -> bool:
    """Compare row by row."""
    known = list(oracle.born_ms)
    live = [row for row, key in enumerate(known) if key not in oracle.withdrawn]
    return (
        len(vocabulary) == len(known)
        and vocabulary.keys.tolist() == known
        and vocabulary.born_ms.tolist() == list(oracle.born_ms.values())
        and list(vocabulary.texts) == [oracle.texts.get(key, "") for key in known]
        and vocabulary.withdrawn.tolist() == [key in oracle.withdrawn for key in known]
        and vocabulary.withdrawn_ms.tolist() == [oracle.withdrawn.get(key, 0) for key in known]
        and vocabulary.live().tolist() == live
        and vocabulary.without_text == sum(not oracle.texts.get(key) for key in known)
        and vocabulary.collisions == oracle.collisions
    )


@given(calls)
def test_rows_births_texts_and_withdrawals_agree_with_dictionaries(every: Calls) -> None:
    """Rows come in order of admission; births are minima; the first text stays; withdrawals wait for their key."""
    assert agree(*after(every))


@given(calls, st.lists(keys))
def test_a_key_has_its_row_or_none(every: Calls, asked: list[int]) -> None:
    """rows() gives what admit() gave, and -1 for a key that was never admitted, withdrawn or not."""
    vocabulary, oracle = after(every)
    row_of = {key: row for row, key in enumerate(oracle.born_ms)}
    assert vocabulary.rows(np.array(asked, np.uint64)).tolist() == [row_of.get(key, -1) for key in asked]


@given(calls, calls)
def test_a_restored_state_goes_on_as_if_nothing_had_happened(before: Calls, then: Calls) -> None:
    """State and digest survive the round trip, and later calls do the same to both, without touching one another."""
    original, oracle = after(before)
    restored = Vocabulary.from_state(original.state())
    assert digest(restored) == digest(original)
    untouched = digest(original)
    for each in then:
        call(restored, *each)
        oracle.call(*each)
    assert agree(restored, oracle)
    assert digest(original) == untouched


@given(calls, st.sets(st.integers(0, 5)), calls)
def test_what_is_handed_out_stays_as_it_was(before: Calls, buried: set[int], then: Calls) -> None:
    """Births and live rows of a moment do not change with later calls, and those of a later moment are anew."""
    vocabulary = after(before)[0]
    lent = vocabulary.births(), vocabulary.live_mask(), vocabulary.live()
    kept = [array.tolist() for array in lent]
    vocabulary.bury(np.array(sorted(row for row in buried if row < len(vocabulary)), np.int64))
    for each in then:
        call(vocabulary, *each)
    assert [array.tolist() for array in lent] == kept
    live = [row for row, key in enumerate(vocabulary.keys.tolist()) if key != NO_KEY and not vocabulary.withdrawn[row]]
    assert vocabulary.live().tolist() == np.flatnonzero(vocabulary.live_mask()).tolist() == live
    assert vocabulary.births().tolist() == vocabulary.born_ms.tolist()


@given(calls, calls)
def test_digests_differ_when_anything_that_is_kept_differs(one: Calls, other: Calls) -> None:
    """Equal digests if and only if the arrays of the state are equal."""
    left, right = after(one)[0], after(other)[0]
    same = all(np.array_equal(a, b) for a, b in zip(left.state().values(), right.state().values(), strict=True))
    assert (digest(left) == digest(right)) == same


def test_a_state_with_one_key_in_two_rows_is_refused() -> None:
    """A damaged checkpoint is refused with a sentence."""
    vocabulary = Vocabulary()
    vocabulary.admit(np.array([1, 2], np.uint64), np.zeros(2, np.int64))
    state = vocabulary.state() | {"keys": np.array([1, 1], np.uint64)}
    with pytest.raises(ModelError, match=r"2 keys, 1 of them distinct.*damaged"):
        Vocabulary.from_state(state)


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.data.vocabulary).failed == 0
