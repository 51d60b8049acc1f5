import math

from hypothesis import example, given

from model.baselines.last_items import LastItems
from tests.batches import Quiz, make_quiz, quizzes


def recency(quiz: Quiz, t: int) -> list[int]:
    """List the distinct candidates of a user's history, latest first."""
    candidates = quiz.candidates(t)
    latest_first = [item for item in reversed(quiz.histories[t]) if item in candidates]
    return list(dict.fromkeys(latest_first))


COMES_BACK = make_quiz([0, 0, 0], [False, True, False], [0, 2, 1], [9, 9, 9], [[0, 2, 1, 0, None]] * 3)


@given(quizzes())
@example(COMES_BACK)
def test_a_target_has_its_place_in_the_users_list_or_is_a_miss(quiz: Quiz) -> None:
    """The list holds each item once, at its last place, and no item that cannot be recommended; others are misses."""
    baseline = LastItems()
    lists = [recency(quiz, t) for t in range(len(quiz.targets))]
    by_hand = [
        items.index(target) + 1 if target in items else math.inf
        for items, target in zip(lists, quiz.targets, strict=True)
    ]
    assert baseline.ranks(quiz.questions).tolist() == by_hand
    baseline.learn(quiz.questions)
    assert baseline.ranks(quiz.questions).tolist() == by_hand
