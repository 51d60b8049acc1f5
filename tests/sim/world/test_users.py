"""Users: their tastes, how often each comes, and how long a visit is."""

import numpy as np
import pytest

from tests.sim.world.worlds import scenario


def test_a_taste_has_its_slots() -> None:
    """At most as many categories as slots; a high concentration makes their weights equal."""
    few, even = (scenario(base={"users": 3_000, "categories": 50, "slots": 3, "concentration": c}) for c in (0.2, 50))
    for made, highest in ((few, 0.85), (even, 0.36)):
        taste_UC = made.world.users.taste(0)
        assert taste_UC.sum(axis=1) == pytest.approx(np.ones(3_000))
        assert ((taste_UC > 0).sum(axis=1) <= 3).all()
        assert np.abs((taste_UC > 0).sum(axis=0) - 180).max() < 60
        assert np.median(taste_UC.max(axis=1)) == pytest.approx(highest, abs=0.06)


def test_visits_are_as_long_as_set() -> None:
    """Events of a session, the gap between them, and how often active users come."""
    made = scenario(base={"events": 60_000, "session": 8.0, "session_gap_s": 5.0, "users": 2_000, "activity": 0.0})
    visits = made.world.visits
    order = np.lexsort((visits.ts_ms, visits.users))
    gap_s = np.diff(visits.ts_ms[order])[np.diff(visits.users[order]) == 0] / 1000
    within = gap_s[gap_s < 120]
    assert within.mean() == pytest.approx(5.0, rel=0.02)
    assert len(visits.ts_ms) / (len(visits.ts_ms) - len(within)) == pytest.approx(8.0, rel=0.02)
    active = scenario(base={"events": 60_000, "session": 1.0, "activity": 1.0})
    share_U = np.bincount(active.world.visits.users, minlength=40) / 60_000
    assert np.abs(share_U - active.world.users.activity).max() < 0.01
    assert np.log(active.world.users.activity).std() == pytest.approx(1.0, abs=0.25)
