import math

from hypothesis import given, settings

from model.baselines.vsknn import Vsknn
from model.counting.neighbours import FADE, ITEMS
from stream.example import Example
from tests.batches import make_quiz
from tests.laws import streams
from tests.model.baselines.asking import Asked, check_formula, shares


def by_hand(learned: list[Asked], asked: Asked, item: int) -> float:
    """Return 2 + the similarity of the users who have the item, or its popularity; few enough that all are near."""
    taken = {event.target for event in learned}
    last = [i for i in asked.history[::-1] if i in taken][:ITEMS]
    weights = {i: FADE ** last.index(i) for i in last}
    scores = []
    for user in {event.user for event in learned} - {asked.user}:
        has = {event.target for event in learned if event.user == user}
        if item in has and has & weights.keys():
            scores.append(sum(weights.get(i, 0.0) for i in has) / math.sqrt(len(has)))
    return 2 + math.fsum(scores) if scores else shares(learned).get(item, 0.0)


@given(streams(3))
@settings(deadline=None)
def test_scores_are_those_of_the_formula(examples: list[Example]) -> None:
    """What is kept in slots is what the lists of all events say."""
    check_formula(Vsknn, by_hand, examples)


def test_what_a_like_minded_user_has_comes_first() -> None:
    """The nearer of two users first; one who shares nothing is no neighbour, and the rest is by popularity."""
    born, alive = [0] * 6, [False] * 6
    nearest = Vsknn(10**6)
    histories = [[0], [0, 1], [5], [5]]
    learned = make_quiz(born, alive, [1, 2, 3, 4], [40] * 4, [*histories], users=[7, 7, 8, 9]).questions
    nearest.learn(learned)
    asked = make_quiz(born, alive, [0, 2, 3, 4], [40] * 4, [[1]] * 4, users=[1] * 4).questions
    assert nearest.ranks(asked).tolist() == [2.0, 2.0, 4.5, 4.5]
