from dataclasses import replace

import numpy as np
from hypothesis import given, settings, strategies as st

from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex
from model.data.item_age import SLICES
from model.keys.lives import Limits
from stream.example import Kind, id_key
from tests.batches import make_example, with_targets
from tests.laws import CLICK, KEYS, REQUEST_MS, START_MS, Example, streams

HOUR_MS = 3_600_000


def clicked(items: list[str], ts_ms: list[int]) -> Example:
    """Return an example of clicks, the last of which is the target."""
    tokens = [(id_key(item), CLICK, at_ms, Kind.ACTION) for item, at_ms in zip(items, ts_ms, strict=True)]
    return with_targets(make_example(tokens), [(len(items) - 1, len(items) - 2, 0, ts_ms[-1], [CLICK])])


@given(streams(2))
def test_questions_are_over_what_was_known_before(examples: list[Example]) -> None:
    """Asking changes nothing; new ids have no row in the questions, and have one in the answers."""
    index = EntityIndex()
    index.take_in(examples[:1])
    before = {name: array.copy() for name, array in index.state().items()}
    known = set(index.items.keys.tolist())
    questions = index.ask(examples[1:])
    assert all(np.array_equal(array, before[name]) for name, array in index.state().items())
    taken = index.take_in(examples[1:])
    batch, answered = taken.batch, taken.answered
    assert taken.questions.targets.tolist() == questions.targets.tolist()
    keys = batch.tokens.keys[batch.tokens.positions[batch.targets.positive]]
    for key, row, found in zip(keys.tolist(), taken.questions.targets, answered.targets, strict=True):
        assert (row == -1) == (key not in known)
        assert row in (-1, found)
        assert answered.keys[found] == key
    assert len(taken.questions.born_ms) == len(taken.questions.live) == len(taken.questions.keys) == len(known)
    assert len(answered.born_ms) == len(answered.live) == len(answered.keys) == len(index.items)
    assert answered.targets.tolist() == batch.positives().tolist()
    assert answered.possible.tolist() == taken.questions.possible.tolist()


def test_an_older_token_moves_a_birth_back_in_the_answers_only() -> None:
    """Questions that were asked keep the births of their time."""
    index = EntityIndex()
    index.take_in([clicked(["a", "b"], [START_MS, START_MS + 10])])
    taken = index.take_in([clicked(["a", "b"], [START_MS - 5, START_MS + 20])])
    assert taken.questions.born_ms.tolist() == [START_MS, START_MS + 10]
    assert taken.answered.born_ms.tolist() == [START_MS - 5, START_MS + 10]


def test_targets_have_the_age_they_had_at_their_request() -> None:
    """A target shown for the first time is unseen; ages of shown and of clicked targets are told apart."""
    index = EntityIndex()
    index.take_in([clicked(["a", "b"], [START_MS, START_MS])])
    later_ms = START_MS + 2 * HOUR_MS
    tokens = [(id_key(item), 0, later_ms, Kind.IMPRESSION) for item in ("a", "new")]
    taken = index.take_in([with_targets(make_example(tokens), [(i, -1, 0, later_ms, [CLICK] * i) for i in (0, 1)])])
    assert [SLICES[i] for i in taken.slices] == ["unseen"]
    assert [SLICES[i] for i in taken.rank_slices] == ["<1d", "unseen"]


def test_tokens_have_rows_of_their_tables() -> None:
    """Attributes and actions are features, all else are items; what a token lacks is -1."""
    index = EntityIndex()
    tokens = [(7, 0, START_MS, Kind.ATTRIBUTE), (7, 0, START_MS, Kind.IMPRESSION), (7, CLICK, START_MS, Kind.ACTION)]
    batch = index.take_in([make_example(tokens)]).batch
    assert [column.tolist() for column in batch.rows] == [[-1, 0, 0], [0, -1, -1], [-1, -1, 1], [-1, -1, -1]]
    short = batch.shortened(np.array([True, False, True]))
    assert [column.tolist() for column in short.rows] == [[-1, 0], [0, -1], [-1, 1], [-1, -1]]
    assert short.tokens.kinds.tolist() == [Kind.ATTRIBUTE, Kind.ACTION]


@given(st.lists(st.booleans(), max_size=5))
def test_a_withdrawn_item_is_no_candidate_until_it_comes_back(withdrawals: list[bool]) -> None:
    """The newest record decides; an older one, which the catalogue refuses, changes nothing."""
    index = EntityIndex()
    index.take_in([clicked(["a", "b"], [START_MS, START_MS])])
    key, gone = id_key("a"), False
    for n, gone in enumerate(withdrawals):
        ts_ms = START_MS + n
        index.learn_items([Tombstone(key, "a", ts_ms) if gone else ItemRecord(key, "a", None, {}, ts_ms)])
        index.learn_items([ItemRecord(key, "a", None, {}, START_MS - 1), Tombstone(key, "a", START_MS - 1)])
    questions = index.ask([clicked(["b", "a"], [START_MS, START_MS + REQUEST_MS])])
    assert questions.possible.tolist() == [not gone]
    if withdrawals:
        assert questions.candidates().tolist() == [[not gone, True]]


LIMITS = [Limits(3), Limits(2, max_rows=4), Limits(ttl_ms=2 * REQUEST_MS), Limits(1, 2 * REQUEST_MS, 4, "both")]


@settings(max_examples=50)
@given(st.sampled_from(LIMITS), st.lists(streams(3), min_size=1, max_size=2))
def test_every_item_has_its_text_though_it_came_before_the_row(limits: Limits, logs: list[list[Example]]) -> None:
    """A text travels once: items are admitted later, or die and come back without it, also after a restart."""
    index, told = EntityIndex(limits=limits), set[int]()
    for example in logs[0] + logs[-1]:
        new = [key for key in dict.fromkeys(example.keys.tolist()) if key in KEYS and key not in told]
        told.update(new)
        texts = [f"item {KEYS.index(key)}" for key in new]
        index.take_in([replace(example, text_keys=np.array(new, np.uint64), texts=tuple(texts))])
        restored = EntityIndex(limits=limits)
        restored.load_state({name: np.array(array) for name, array in index.state().items()})
        index = restored
        keys = index.items.keys[index.items.live()].tolist()
        assert [index.items.texts[row] for row in index.items.live()] == [f"item {KEYS.index(key)}" for key in keys]
        assert index.items.without_text == index.items.collisions == 0


def test_an_id_without_a_text_has_that_of_the_catalogue() -> None:
    """Whether its record, or its withdrawal, comes before the row or after it; till then it is counted."""
    records = [ItemRecord(id_key("a"), "a", None, {}, START_MS), Tombstone(id_key("b"), "b", START_MS)]
    before, after = EntityIndex(), EntityIndex()
    before.learn_items(records)
    for index in (before, after):
        index.take_in([clicked(["a", "b", "c"], [START_MS] * 3)])
    assert (before.items.without_text, after.items.without_text) == (1, 3)
    after.learn_items(records)
    for index in (before, after):
        assert (list(index.items.texts), index.items.without_text) == (["a", "b", ""], 1)
