import math

import numpy as np
import pytest
from hypothesis import given, settings

import model.baselines.vsknn
from model.baselines.vsknn import FADE, ITEMS, Vsknn
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
        own = [event for event in learned if event.user == user]
        has = {own[-1].target, *own[-1].history[::-1][: ITEMS - 1]}
        if item in has and {event.target for event in own} & weights.keys():
            scores.append(sum(weights.get(i, 0.0) for i in has) / math.sqrt(len(has)))
    return 2 + math.fsum(scores) if scores else shares(learned).get(item, 0.0)


@given(streams(3))
@settings(deadline=None)
def test_scores_are_those_of_the_formula(examples: list[Example]) -> None:
    """What is kept as rings and slots is what the lists of all events say."""
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


def test_only_the_nearest_of_the_latest_takers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item's ring forgets its first takers, and users share slots by the hash of their keys."""
    born, alive = [0] * 5, [False] * 5
    nearest = Vsknn(10**6)
    for n in range(model.baselines.vsknn.RECENT + 1):  # each takes item 0; the first also has item 1
        history: list[list[int | None]] = [[1]] if n == 0 else [[2]]
        nearest.learn(make_quiz(born, alive, [0], [40], history, users=[n + 1]).questions)
    scores = nearest.scores(make_quiz(born, alive, [3], [40], [[0]], users=[999]).questions)[0]
    assert scores[2] > 2
    assert scores[1] < 1
    before = nearest._users.copy()
    nearest.learn(make_quiz(born, alive, [4], [40], [[3]], users=[2 + model.baselines.vsknn.SLOTS]).questions)
    assert np.flatnonzero(nearest._users != before).tolist() == [2]
