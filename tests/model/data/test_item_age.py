import numpy as np
from hypothesis import given, strategies as st

from model.data.item_age import SLICES, UNBORN, age_slice

NOW_MS, HOUR_MS = 2**41, 3_600_000
LIMITS_MS = {"unseen": 1, "<1h": HOUR_MS, "<1d": 24 * HOUR_MS, "<7d": 168 * HOUR_MS}
edges_ms = st.sampled_from([limit + step for limit in LIMITS_MS.values() for step in (-1, 0)])


@given(st.lists(edges_ms | st.integers(-NOW_MS, NOW_MS)))
def test_slices_agree_with_the_rule_applied_by_hand(ages_ms: list[int]) -> None:
    """A target's slice does not depend on the others; an edge is older; born at or after the request is unseen."""
    born_ms = NOW_MS - np.array(ages_ms, np.int64)
    by_hand = [next((name for name, limit_ms in LIMITS_MS.items() if age_ms < limit_ms), "old") for age_ms in ages_ms]
    assert [SLICES[i] for i in age_slice(born_ms, np.full_like(born_ms, NOW_MS))] == by_hand


def test_an_unborn_item_is_unseen_at_any_time() -> None:
    """UNBORN lies after every request."""
    request_ms = np.array([0, NOW_MS, UNBORN])
    assert [SLICES[i] for i in age_slice(np.full(3, UNBORN), request_ms)] == ["unseen"] * 3
