"""Each law of tests/laws.py catches a baseline that breaks it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from numpy.typing import NDArray

from model.baselines.popularity import Popularity
from model.data.candidates import Questions
from stream.example import Example
from tests import laws
from tests.laws import Counting, Factory, streams

Ranks = NDArray[np.float64]
Law = Callable[[Factory, list[Example], list[Example]], None]


class Peeks(Popularity):
    """Knows the token after the query, which is often the target."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        found = questions.rows[questions.queries + 1] == questions.targets
        return np.where(found & questions.possible, 1.0, super().fast_ranks(questions))


class Reads(Popularity):
    """Knows how many tokens are still to come."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return super().fast_ranks(questions) + len(questions.rows)


class Revives(Popularity):
    """Recommends what was withdrawn."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return super().fast_ranks(
            replace(questions, live=questions.live | True, possible=questions.target_born_ms < 2**60)
        )


class Foretells(Popularity):
    """Recommends what is not born yet."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return super().fast_ranks(replace(questions, possible=questions.targets >= 0))


class Herds(Popularity):
    """Answers all questions like the first."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return np.resize(super().fast_ranks(questions)[:1], len(questions))


class Skims(Popularity):
    """Learns one answer of each micro-batch."""

    def learn(self, questions: Questions) -> None:
        super().learn(questions.part(slice(1)))


class Measures(Popularity):
    """Knows how large the vocabulary is."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return super().fast_ranks(questions) + len(questions.born_ms)


class Gambles(Popularity):
    """Adds random numbers."""

    def fast_ranks(self, questions: Questions) -> Ranks:
        return super().fast_ranks(questions) + np.random.default_rng().random(len(questions))


BREAKS: list[tuple[type[Popularity], Law]] = [
    (Peeks, lambda make, before, asked: laws.the_answer_is_not_known(make, before, asked[0])),
    (Reads, lambda make, before, asked: laws.no_look_ahead(make, before, asked, [1, 2], before)),
    (Revives, lambda make, before, asked: laws.candidates_are_live_items(make, before, asked, [0, 1, 2, 3])),
    (Foretells, lambda make, before, asked: laws.candidates_are_live_items(make, before, asked, [])),
    (Herds, laws.answers_do_not_depend_on_batches),
    (Skims, lambda make, before, asked: laws.learning_does_not_depend_on_batches(make, before, asked, 1)),
    (Measures, laws.growth_does_not_matter),
    (Gambles, lambda make, before, asked: laws.is_deterministic(make, [*before, *asked])),
    (Gambles, lambda make, before, asked: laws.scores_give_the_ranks(make, before, asked, [0, 1])),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("cheat", "law"), BREAKS)
def test_a_cheat_is_caught(cheat: type[Popularity], law: Law) -> None:
    """Each breaks one law, and some streams are enough to see it: the first that does ends the search."""

    @given(before=streams(3), asked=streams(2))
    @settings(max_examples=1000, deadline=None, database=None, phases=[Phase.generate])
    def hold(before: list[Example], asked: list[Example]) -> None:
        law(partial(Counting, cheat), before, asked)

    with pytest.raises(AssertionError):
        hold()
