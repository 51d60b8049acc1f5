"""Hidden targets of replayed examples, and what is read around them."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from model.data.entity_index import EntityIndex, RowBatch
from model.learning.cloze import HIDDEN, cloze_of, hide
from stream.example import NO_KEY, Example, Kind
from tests.batches import make_example, with_targets
from tests.laws import CLICK, KEYS, START_MS, positives, streams


def rows(examples: list[Example]) -> RowBatch:
    index = EntityIndex()
    index.take_in(examples)
    return index.known(examples)


@given(examples=streams(), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_each_example_has_a_hidden_target_and_is_read_as_far_as_it_was_tested(
    examples: list[Example], seed: int
) -> None:
    """Read are the tokens up to the first query, and the retrieval targets; of these one at least is hidden."""
    batch = rows(examples)
    hidden_P = hide(batch, np.random.default_rng(seed))
    cloze = cloze_of(batch, hidden_P)
    first, count = 0, 0
    for e, example in enumerate(examples):
        own, start = positives(example), batch.tokens.offsets[e]
        wanted = {*range(example.queries[own].min() + 1), *example.positions[own].tolist()}
        part = slice(cloze.offsets[e], cloze.offsets[e + 1])
        assert (cloze.read[part] - start).tolist() == sorted(wanted)
        assert cloze.places_m[part].tolist() == list(range(len(wanted)))
        hidden = own[hidden_P[first : first + len(own)]]
        assert len(hidden) >= 1
        assert (cloze.read[part][cloze.hidden_m[part]] - start).tolist() == example.positions[hidden].tolist()
        first, count = first + len(own), count + len(hidden)
    assert cloze.hidden.tolist() == np.flatnonzero(hidden_P).tolist()
    assert len(cloze.hidden) == count


def test_a_click_that_has_not_been_tested_is_not_read_from_its_right() -> None:
    """Item 1's label is not final: its tokens, shown and clicked between two targets, are left out.

    So is the click on item 0, which would give the shown item 0 away.
    """
    tokens = [(KEYS[5], CLICK, Kind.ACTION), (KEYS[0], NO_KEY, Kind.IMPRESSION), (KEYS[1], NO_KEY, Kind.IMPRESSION)]
    tokens += [(KEYS[0], CLICK, Kind.ACTION), (KEYS[1], CLICK, Kind.ACTION), (KEYS[2], CLICK, Kind.ACTION)]
    made = make_example([(key, action, START_MS + 1000 * n, kind) for n, (key, action, kind) in enumerate(tokens)])
    targets = [(1, 0, 0, START_MS + 1000, [CLICK]), (5, 4, 1, START_MS + 5000, [CLICK])]
    cloze = cloze_of(rows([with_targets(made, targets)]), np.array([True, False]))
    assert (cloze.read.tolist(), cloze.hidden_m.tolist()) == ([0, 1, 5], [False, True, False])


def test_a_fifth_of_many_targets_is_hidden() -> None:
    """Equal generators hide equal targets; of an example that chance leaves whole, the last target is hidden."""
    tokens = [(KEYS[n % 8], CLICK, START_MS + n, Kind.ACTION) for n in range(1001)]
    many = with_targets(make_example(tokens), [(n + 1, n, n, START_MS + n + 1, [CLICK]) for n in range(1000)])
    one = with_targets(make_example(tokens[:2], 7), [(1, 0, 0, START_MS + 1, [CLICK])])
    batch = rows([many, one])
    hidden_P = hide(batch, np.random.default_rng(0))
    assert hidden_P[:1000].mean() == pytest.approx(HIDDEN, abs=0.03)
    assert hidden_P[1000]
    assert hidden_P.tolist() == hide(batch, np.random.default_rng(0)).tolist()
