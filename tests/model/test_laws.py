"""The laws of tests/laws.py hold for every baseline, encoder and attention."""

from functools import partial
from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st

from model.attention.activations import ACTIVATIONS
from model.baselines import BASELINES
from model.config import ModelSettings
from model.network.encoders import ENCODERS
from model.network.rankers import RANKERS
from stream.example import Example
from tests import laws
from tests.laws import ITEMS, Counting, Factory, Neural, streams
from tests.strategies import tries

COUNTING: dict[str, Factory] = {name: partial(Counting, baseline) for name, baseline in BASELINES.items()}
NEURAL: dict[str, Factory] = {name: partial(Neural, encoder=name) for name in ENCODERS}
NEURAL["din"] = partial(Neural, encoder="din")  # for all that only rank: their retrieval is the same
NEURAL |= {f"hstu, {name}": partial(Neural, attention=name) for name in ACTIVATIONS if name != "silu"}
EVERY = {**COUNTING, **NEURAL}
items = st.lists(st.integers(0, ITEMS - 1), max_size=3)


def holds(number: int, name: str) -> settings:
    """Return how many examples a law is tried on: fewer for networks, which are slow."""
    return settings(max_examples=tries(number if name in COUNTING else max(4, number // 6)), deadline=None)


def test_settings_name_the_encoders_that_there_are() -> None:
    """A new file in model/network/encoders, or of a ranking model, is of use only once its name may be set."""
    assert set(get_args(ModelSettings.model_fields["encoder"].annotation)) == {*ENCODERS, *RANKERS}


def test_baselines_are_found_by_their_names() -> None:
    """Every file that has one is found; each has a title of its own."""
    assert set(BASELINES) >= {"popularity", "last_items", "markov", "co_occurrence"}
    assert len({baseline.title for baseline in BASELINES.values()}) == len(BASELINES)


@pytest.mark.parametrize("name", EVERY)
def test_nobody_looks_ahead(name: str) -> None:
    """A rank is the same whatever the target's label, the tokens after the request and later examples are."""

    @given(before=streams(), asked=streams(), future=items, other=streams())
    @holds(25, name)
    def law(before: list[Example], asked: list[Example], future: list[int], other: list[Example]) -> None:
        laws.no_look_ahead(EVERY[name], before, asked, future, other)

    law()


@pytest.mark.parametrize("name", EVERY)
def test_nobody_knows_the_answer(name: str) -> None:
    """The ranks of all items in one situation are a ranking: no contestant has looked which of them is the target."""

    @given(before=streams(3), asked=streams())
    @holds(25, name)
    def law(before: list[Example], asked: list[Example]) -> None:
        laws.the_answer_is_not_known(EVERY[name], before, asked[-1])

    law()


@pytest.mark.parametrize("name", EVERY)
def test_candidates_are_live_items_alone(name: str) -> None:
    """Items that are withdrawn or not born never outrank a candidate, and are misses as targets."""

    @given(before=streams(2), asked=streams(), withdrawn=items)
    @holds(30, name)
    def law(before: list[Example], asked: list[Example], withdrawn: list[int]) -> None:
        laws.candidates_are_live_items(EVERY[name], before, asked, withdrawn)

    law()


@pytest.mark.parametrize("name", EVERY)
def test_answers_do_not_depend_on_the_batch(name: str) -> None:
    """Examples tested together or one by one have the same ranks."""

    @given(before=streams(), asked=streams(2))
    @holds(30, name)
    def law(before: list[Example], asked: list[Example]) -> None:
        laws.answers_do_not_depend_on_batches(EVERY[name], before, asked)

    law()


@pytest.mark.parametrize("name", COUNTING)
def test_what_baselines_learn_does_not_depend_on_the_batch(name: str) -> None:
    """A stream split into micro-batches in any way teaches the same."""

    @given(before=streams(3), asked=streams(), split=st.integers(0, 3))
    @holds(30, name)
    def law(before: list[Example], asked: list[Example], split: int) -> None:
        laws.learning_does_not_depend_on_batches(EVERY[name], before, asked, split)

    law()


@pytest.mark.parametrize("name", EVERY)
def test_a_vocabulary_that_grew_late_answers_as_one_that_was_there(name: str) -> None:
    """Rows of items that no event has shown change nothing. (Networks would draw negatives from them.)"""

    @given(before=streams(), asked=streams())
    @holds(30, name)
    def law(before: list[Example], asked: list[Example]) -> None:
        laws.growth_does_not_matter(EVERY[name], before, asked, learn=name in COUNTING)

    law()


@pytest.mark.parametrize("name", EVERY)
def test_equal_streams_give_equal_ranks(name: str) -> None:
    """There are no hidden random numbers and no clock."""

    @given(examples=streams(2))
    @holds(20, name)
    def law(examples: list[Example]) -> None:
        laws.is_deterministic(EVERY[name], examples)

    law()


@pytest.mark.parametrize("name", COUNTING)
def test_scores_are_finite_for_candidates_alone_and_give_the_ranks(name: str) -> None:
    """What is withdrawn or born too late has -inf, and ranks are those of the scores, however they are found."""

    @given(before=streams(2), asked=streams(2), withdrawn=items)
    @holds(30, name)
    def law(before: list[Example], asked: list[Example], withdrawn: list[int]) -> None:
        laws.scores_give_the_ranks(lambda: Counting(BASELINES[name]), before, asked, withdrawn)

    law()


@pytest.mark.parametrize("name", COUNTING)
def test_later_requests_change_nothing_where_learning_goes_along(name: str) -> None:
    """Even a baseline that counts request by request has not seen those that follow, nor the answer."""

    @given(before=streams(), asked=streams(2))
    @holds(20, name)
    def law(before: list[Example], asked: list[Example]) -> None:
        laws.later_events_do_not_matter(EVERY[name], before, asked)
        laws.requests_are_asked_before_they_count(EVERY[name], before, asked[-1])

    law()


@given(before=streams(2), asked=streams(2))
@settings(max_examples=30, deadline=None)
def test_the_stack_counts_each_event_at_once(before: list[Example], asked: list[Example]) -> None:
    """How a stream is cut into micro-batches does not show: a burst is seen within one."""
    laws.each_event_counts_at_once(COUNTING["stack"], before, asked)


@pytest.mark.parametrize("name", [*ENCODERS, *RANKERS])
def test_click_probabilities_keep_the_laws(name: str) -> None:
    """They know nothing after the request, do not depend on the batch, and a run that is resumed has the same bits."""

    @given(before=streams(2), asked=streams(), future=items, other=streams())
    @settings(max_examples=2, deadline=None)
    def law(before: list[Example], asked: list[Example], future: list[int], other: list[Example]) -> None:
        ready = Neural(encoder=name, rank_actions=("click", "like"), fused=False)
        ready.step(before, test=False, learn=True)
        ready.step([*asked, *other], test=False, learn=False)  # so that new ids have their rows in any case
        laws.clicks_do_not_look_ahead(ready, asked, future, other, slate=name in ENCODERS)
        laws.clicks_do_not_depend_on_batches(ready, asked)
        laws.resumes_to_the_bit(ready, asked)

    law()
