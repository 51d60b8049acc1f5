import numpy as np
import pytest

from model.serving.popular import Popular
from tests.served import HALF_LIFE_MS, NOW_MS, answerer, snapshot_of


@pytest.mark.parametrize(
    ("user", "reason"),
    [("nobody", "user unknown"), ("new", "user unknown"), ("stranger", "the snapshot knows none of the user's tokens")],
)
def test_an_unknown_user_gets_what_is_popular(user: str, reason: str) -> None:
    """The most counted live items, best first, and the answer says why."""
    answer = answerer(withdrawn=[18]).topk(user, 3)
    assert [(item.item_id, item.score) for item in answer.items] == [("i19", 19.0), ("i17", 17.0), ("i16", 16.0)]
    assert (answer.source, answer.reason, answer.tokens) == ("popularity", reason, 0)
    ranking = answerer().rank(user, ["i1", "x", "i7", "i2"])
    assert [(item.item_id, item.score) for item in ranking.items] == [
        ("i7", 7.0),
        ("i2", 2.0),
        ("i1", 1.0),
        ("x", None),
    ]
    assert (ranking.source, ranking.reason, ranking.ordered_by) == ("popularity", reason, "popularity")
    assert all(item.probabilities is None for item in ranking.items)


def test_excluded_and_withdrawn_items_are_skipped_and_ties_go_by_row() -> None:
    """Items younger than the counts have none and come last."""
    sums = np.array([1.0, 5.0, 3.0, 5.0, 9.0])
    clock, at_ms = np.array([NOW_MS // HALF_LIFE_MS, HALF_LIFE_MS]), np.array(NOW_MS)
    snapshot = snapshot_of({"popularity.sums": sums, "popularity.clock": clock, "popularity.at_ms": at_ms})
    popular = Popular(snapshot, 7, live_V=np.array([0, 1, 2, 3, 5, 6]))
    rows, counts = popular.topk(4, excluded=np.array([2]))
    assert (rows.tolist(), counts.tolist()) == ([1, 3, 0, 5], [5.0, 5.0, 1.0, 0.0])
    assert popular.topk(9, excluded=np.array([], np.int64))[0].tolist() == [1, 3, 2, 0, 5, 6]
