"""Contestants: their names, their copies, and what they recommend."""

import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.learning.learner import Learner
from sim.errors import SimError
from sim.experiment.contestants import Contestant, Neural, make, names, title_of
from sim.experiment.feeds import micro_batches
from stream.example import id_key
from tests.sim.experiment.small_runs import MODEL, TRAIN, records, slates


def contestant(name: str) -> Contestant:
    return make(name, ModelSettings(**MODEL), TrainSettings(**TRAIN, seed=1))


@pytest.mark.parametrize("name", names())
def test_each_name_makes_a_contestant_that_answers(name: str) -> None:
    """It has a title, ranks every target from the second micro-batch on, and recommends ids that it has met."""
    assert title_of(name)
    made = contestant(name)
    batches = [batch for _, batch in micro_batches(records(12), TRAIN["batch_examples"])]
    for batch in batches[:2]:
        tested = made.step(batch, test=True, learn=True)
    assert tested is not None
    assert len(tested.ranks) == sum(len(example.positions) for example in batches[1])
    assert np.isfinite(tested.ranks).any()
    met = {text for batch in batches[:2] for example in batch for text in example.texts}
    for best in made.recommend(batches[2], 3):
        items = [text for text in best if text]
        assert len(best) == 3
        assert len(items) == len(set(items))
        assert len(items) == 3 or name == "last_items"  # which knows only the user's own items
        assert set(items) <= met


def test_the_settings_of_a_name_win() -> None:
    """`gru` is the GRU whatever the model's settings say."""
    made = make("gru", ModelSettings(**MODEL, encoder="hstu"), TrainSettings(**TRAIN))
    assert isinstance(made, Neural)
    assert made._learner.model.encoder == "gru"


@pytest.mark.parametrize("name", ["silu", "co_occurrence"])
def test_a_frozen_copy_does_not_learn_with_the_original(name: str) -> None:
    """After the original has learned more, the copy still gives the ranks of before, and the original others."""
    made = contestant(name)
    *first, last = [batch for _, batch in micro_batches(records(24), TRAIN["batch_examples"])]
    for batch in first[:3]:
        made.step(batch, test=False, learn=True)
    early, late = made.frozen(), made.frozen()
    before = early.step(last, test=True, learn=False)
    for batch in first[3:]:
        made.step(batch, test=False, learn=True)
    after, learned = late.step(last, test=True, learn=False), made.step(last, test=True, learn=False)
    assert before is not None
    assert after is not None
    assert learned is not None
    assert np.array_equal(before.ranks, after.ranks)
    assert not np.array_equal(before.ranks, learned.ranks)


def test_the_regression_says_what_it_says_beside_a_model() -> None:
    """Its click probabilities are those of the learner's live table, its ranks those of the stack; a copy goes on."""
    learner = Learner(ModelSettings(**MODEL), TrainSettings(**TRAIN, seed=1))
    made, stack = contestant("logistic"), contestant("stack")
    *first, last = [batch for _, batch in micro_batches(slates(), TRAIN["batch_examples"])]
    texts = sorted({text for batch in first for example in batch for text in example.texts})
    for each in (learner, made, stack):
        each.learn_items([ItemRecord(id_key(text), text, None, {"odd": n % 2}, 0) for n, text in enumerate(texts)])
    for place, batch in enumerate(first):
        outcome = learner.step(batch).outcome
        tested, ranked = (each.step(batch, test=place != 3, learn=True) for each in (made, stack))
        if place == 3:
            assert tested is None
            continue
        assert outcome is not None
        assert tested is not None
        assert tested.clicks is not None
        assert ranked is not None
        assert np.array_equal(tested.clicks.logits, outcome.logits["logistic"])
        assert np.array_equal(tested.clicks.labels, outcome.labels)
        assert np.array_equal(tested.ranks, ranked.ranks)
    copied, own = (each.step(last, test=True, learn=False) for each in (made.frozen(), made))
    assert copied is not None
    assert own is not None
    assert copied.clicks is not None
    assert own.clicks is not None
    assert np.array_equal(copied.clicks.logits, own.clicks.logits)
    assert made._index.item_features.any
    assert len(np.unique(own.clicks.logits)) > 2


def test_a_baseline_has_no_checkpoints() -> None:
    """Its state is None, and restoring one is refused."""
    made = contestant("popularity")
    assert made.state() is None
    with pytest.raises(SimError, match="The baseline popularity keeps no checkpoint"):
        made.load_state({})


def test_an_unknown_name_is_refused() -> None:
    """The error lists the names that exist."""
    with pytest.raises(SimError, match=r"no contestant 'bert'; known are silu, .*popularity"):
        contestant("bert")
