"""Answers with the users' states kept between questions are those without, to the bit."""

import pytest

from model.serving.answerer import Answerer
from model.user_states.cache import UserStates
from tests.served import NOW_MS, SETTINGS, Memory, model_arrays, snapshot_of, tokens_of

SHAPE = SETTINGS.model_copy(update={"max_len": 64})
LONG = tokens_of(*(f"i{i % 20}{' click' if i % 3 else ''}" for i in range(100)))
ITEMS = [f"i{i}" for i in range(20)]
ASKED_MS = NOW_MS + 10_000


def answerers(states: UserStates, seed: int = 0) -> tuple[Answerer, Answerer, Memory]:
    """Return an answerer that keeps states, one of the same snapshot that does not, and the users' tokens."""
    snapshot, memory = snapshot_of(model_arrays(settings=SHAPE, seed=seed), SHAPE), Memory()
    made = [Answerer(snapshot, memory, states=each, wall=lambda: ASKED_MS / 1000) for each in (states, None)]
    return *made, memory


def test_tokens_that_come_are_added_to_the_state() -> None:
    """Each verb uses what another one has kept; topk, rank and explain answer the same, float by float."""
    states = UserStates(10**6)
    ours, plain, memory = answerers(states)
    for step, length in enumerate((40, 40, 41, 50, 50)):
        memory.users["ada"] = LONG[:length]
        now_ms = ASKED_MS + step
        assert ours.topk("ada", now_ms=now_ms, include_seen=True) == plain.topk("ada", now_ms=now_ms, include_seen=True)
        assert ours.rank("ada", ITEMS, now_ms) == plain.rank("ada", ITEMS, now_ms)
        assert ours.explain("ada", ITEMS[:3], now_ms) == plain.explain("ada", ITEMS[:3], now_ms)
    assert states.asked == {"hit": 13, "extended": 1, "miss": 1}


def test_a_forgotten_user_leaves_nothing() -> None:
    """The first question after it drops the state; who comes back with other tokens gets an answer by these alone."""
    states = UserStates(10**6)
    ours, plain, memory = answerers(states)
    memory.users["ada"] = LONG[:40]
    ours.topk("ada", now_ms=ASKED_MS)
    assert states.bytes
    memory.users["ada"] = LONG[:0]
    assert ours.topk("ada", now_ms=ASKED_MS).reason == "user unknown"
    assert states.bytes == 0
    memory.users["ada"] = LONG[45:85]
    assert ours.rank("ada", ITEMS, ASKED_MS) == plain.rank("ada", ITEMS, ASKED_MS)


def test_another_snapshot_answers_by_its_own_weights() -> None:
    """States of the one before are dropped; while it still answers, it keeps none."""
    states = UserStates(10**6)
    before, plain_before, memory = answerers(states)
    memory.users["ada"] = LONG[:40]
    before.rank("ada", ITEMS, ASKED_MS)
    after, plain, memory_after = answerers(states, seed=1)
    assert states.bytes == 0
    memory_after.users["ada"] = LONG[:40]
    for ours, without in ((after, plain), (before, plain_before), (after, plain)):
        assert ours.rank("ada", ITEMS, ASKED_MS) == without.rank("ada", ITEMS, ASKED_MS)
    assert states.asked == {"hit": 1, "extended": 0, "miss": 3}


@pytest.mark.parametrize("length", [64, 80])
def test_the_window_of_a_long_history(length: int) -> None:
    """Of as many tokens as the model reads, the same question again is a hit; another token is not."""
    states = UserStates(10**6)
    ours, plain, memory = answerers(states)
    for wanted, more in (("miss", 0), ("hit", 0), ("miss", 1)):
        memory.users["ada"] = LONG[: length + more]
        before = dict(states.asked)
        assert ours.rank("ada", ITEMS, ASKED_MS) == plain.rank("ada", ITEMS, ASKED_MS)
        assert [result for result, count in states.asked.items() if count > before[result]] == [wanted]


def test_nobodys_questions_keep_nothing() -> None:
    """A sequence that comes with the question has no user."""
    states = UserStates(10**6)
    ours, plain, _ = answerers(states)
    sequence = ITEMS * 2
    assert ours.topk_sequence(sequence, now_ms=ASKED_MS) == plain.topk_sequence(sequence, now_ms=ASKED_MS)
    assert states.bytes == sum(states.asked.values()) == 0
