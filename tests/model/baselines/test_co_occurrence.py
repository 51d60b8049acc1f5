import math

from hypothesis import given, settings

from model.baselines.co_occurrence import WINDOW, CoOccurrence
from stream.example import Example
from tests.batches import make_quiz
from tests.laws import streams
from tests.model.baselines.asking import Asked, check_formula, decayed, shares


def together(learned: list[Asked]) -> list[tuple[int, int, int]]:
    """List (item, item, time) of what went together, both ways."""
    pairs = [(h, a.target, a.request_ms) for a in learned for h in reversed(a.history[-WINDOW:])]
    return pairs + [(j, i, ts_ms) for i, j, ts_ms in pairs]


def by_hand(learned: list[Asked], asked: Asked, item: int) -> float:
    """Return 2 + the sum of cosines with the user's last items that went together with anything, else popularity."""
    counted = together(learned)

    def count(i: int, j: int | None) -> float:
        return decayed([ts_ms for a, b, ts_ms in counted if a == i and j in (None, b)], asked.request_ms)

    window = [key for key in asked.history if any(i == key for i, _, _ in counted)][-WINDOW:]
    pairs = [(i, item) for i in window if any((a, b) == (i, item) for a, b, _ in counted)]
    if not pairs:
        return shares(learned).get(item, 0.0)
    return 2 + math.fsum(count(i, j) / math.sqrt(count(i, None) * count(j, None)) for i, j in pairs)


@given(streams(3))
@settings(deadline=None)  # the first one compiles
def test_scores_are_those_of_the_formula(examples: list[Example]) -> None:
    """Cosines of decayed counts, then popularity, for candidates only, from what was learned before."""
    check_formula(CoOccurrence, by_hand, examples)


def test_what_goes_together_comes_first_and_what_is_popular_next() -> None:
    """It works both ways, and an item that goes with everything is worth less than one that goes with this only."""
    born, alive = [0] * 6, [False] * 6
    items = CoOccurrence(10**6)
    learned = ([1, 2, 2, 2, 5, 5], [[0], [0], [3], [4], [], []])
    items.learn(make_quiz(born, alive, learned[0], [40] * 6, [*learned[1]]).questions)
    asked = make_quiz(born, alive, [1, 2, 5, 3], [40] * 4, [[0]] * 4).questions
    assert items.ranks(asked).tolist() == [1.0, 2.0, 3.0, 5.0]
    back = make_quiz(born, alive, [0, 2], [40] * 2, [[1]] * 2).questions
    assert items.ranks(back).tolist() == [1.0, 2.0]
