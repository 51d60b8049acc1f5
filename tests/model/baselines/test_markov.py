from hypothesis import given, settings

from model.baselines.markov import STRENGTH, Markov
from stream.example import Example
from tests.batches import make_quiz
from tests.laws import streams
from tests.model.baselines.asking import Asked, check_formula, decayed, shares


def by_hand(learned: list[Asked], asked: Asked, item: int) -> float:
    """Return the numerator of an item's smoothed share after the user's last item that anybody has gone on from."""
    left = {before.history[-1] for before in learned if before.history}
    last = next((key for key in reversed(asked.history) if key in left), None)
    times_ms = [a.request_ms for a in learned if a.history and (a.history[-1], a.target) == (last, item)]
    return decayed(times_ms, asked.request_ms) + STRENGTH * shares(learned).get(item, 0.0)


@given(streams(3))
@settings(deadline=None)  # the first one compiles
def test_scores_are_those_of_the_formula(examples: list[Example]) -> None:
    """Decayed transitions plus popularity, for candidates only, from what was learned before."""
    check_formula(Markov, by_hand, examples)


def test_what_follows_the_last_item_comes_first_and_what_is_popular_next() -> None:
    """A chain that was seen once outranks popularity; of the others the popular ones lead."""
    born, alive = [0] * 4, [False] * 4
    markov = Markov(10**6)
    markov.learn(make_quiz(born, alive, [1, 3, 3], [40] * 3, [[0], [], []]).questions)
    asked = make_quiz(born, alive, [0, 1, 2, 3], [40] * 4, [[2, 0, None]] * 4).questions
    assert markov.ranks(asked).tolist() == [3.5, 1.0, 3.5, 2.0]
