"""Users like a user: by the encoder's vectors of their histories."""

import numpy as np
import pytest

from model.serving.answerer import Answerer
from model.serving.responses import QueryError, UnknownError
from model.user_states.cache import UserStates
from tests.served import HISTORY, NOW_MS, Memory, answerer, model_arrays, snapshot_of, tokens_of


def test_users_are_compared_by_what_they_are_recommended() -> None:
    """The same history is cosine 1, whoever's; the nearest come first; the user is none, a user named twice is one."""
    users = {"ada": HISTORY, "twin": HISTORY.copy(), "half": HISTORY[: len(HISTORY) // 2], "one": HISTORY[1:2]}
    ours = answerer(users)
    found = ours.similar_users("ada", ["one", "ada", "half", "twin", "one"], now_ms=NOW_MS)
    assert found.users[0].user == "twin"
    assert sorted(one.user for one in found.users) == ["half", "one", "twin"]
    similar = {one.user: one.similarity for one in found.users}
    assert similar["twin"] == pytest.approx(1, abs=1e-5)
    assert similar["one"] < 0.999
    assert [one.similarity for one in found.users] == sorted(similar.values(), reverse=True)
    back = ours.similar_users("one", ["ada"], now_ms=NOW_MS)
    assert back.users[0].similarity == pytest.approx(similar["one"], abs=1e-5)
    assert [one.user for one in ours.similar_users("ada", ["one", "twin"], k=1, now_ms=NOW_MS).users] == ["twin"]


def test_users_alike_have_scores_alike() -> None:
    """Two histories that the encoder scores items by alike are alike; against the scores themselves."""
    ours = answerer({"ada": HISTORY, "one": HISTORY[1:2]})
    ada, one = (ours._scorer.query(ours._scorer.history(t), NOW_MS) for t in (HISTORY, HISTORY[1:2]))
    assert np.linalg.norm(ada) == pytest.approx(1, abs=1e-5)
    found = ours.similar_users("ada", ["one"], now_ms=NOW_MS).users[0]
    assert (found.similarity, found.tokens) == (pytest.approx(float(ada @ one), abs=1e-5), 1)


def test_who_cannot_be_compared() -> None:
    """A user without a known token is named with the reason; asked about, it is a sentence."""
    ours = answerer()
    found = ours.similar_users("ada", ["nobody", "stranger"])
    assert found.users == []
    assert found.unknown == {
        "nobody": "There is nothing to compare of user 'nobody': user unknown.",
        "stranger": "There is nothing to compare of user 'stranger': the snapshot knows none of the user's tokens.",
    }
    with pytest.raises(UnknownError, match="nothing to compare of user 'nobody': user unknown"):
        ours.similar_users("nobody", ["ada"])


@pytest.mark.parametrize(
    ("users", "k", "sentence"),
    [
        ([], 1, "users has 0 ids; give 1 to 1,000."),
        (["u"] * 1001, 1, "users has 1,001 ids; give 1 to 1,000."),
        (["a", ""], 1, "users holds an empty id, in place 1; leave it out."),
        (["a" * 257], 1, "users has an id of 257 bytes"),
        (["a"], 0, "k is 0; give a number of users from 1 to 1,000."),
    ],
)
def test_refused_comparisons(users: list[str], k: int, sentence: str) -> None:
    """Each in one sentence."""
    with pytest.raises(QueryError, match=sentence):
        answerer().similar_users("ada", users, k)


def test_comparing_keeps_no_state_of_anybody() -> None:
    """A thousand compared users do not push out the states of those who ask."""
    states, long = UserStates(1 << 20), tokens_of(*(f"i{at % 9} click" for at in range(24)))
    ours = Answerer(snapshot_of(model_arrays()), Memory({"ada": long, "twin": long}), states=states)
    ours.similar_users("ada", ["twin"], now_ms=NOW_MS)
    assert states.bytes == 0
    ours.topk("ada", 5, NOW_MS)
    assert states.bytes > 0
