"""How long counts take from where they are made to where they are reached."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.dashboard.delays import GAP_S, LEAST, Counts, Delays, reached_s, spread

BENCH = Path(__file__).parents[3] / "bench"
_rising = st.lists(st.integers(0, 5), min_size=2, max_size=9).map(lambda steps: np.cumsum(steps).astype(float))


def test_a_count_is_reached_between_two_samples() -> None:
    """By the line between them; at the first sample if it is there already, and never if it is not there at the end."""
    at_s, curve = np.array([10.0, 11.0, 12.0, 13.0]), np.array([0.0, 0.0, 8.0, 8.0])
    assert reached_s(np.array([0.0, 2.0, 8.0, 9.0]), at_s, curve).tolist() == [10.0, 11.25, 12.0, np.inf]


@given(curve=_rising, counts=st.lists(st.integers(0, 50), min_size=1))
def test_it_is_what_the_bench_measures(curve: np.ndarray, counts: list[int]) -> None:
    """bench/keep_up.py has the function too, so that it measures older checkouts as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        from watching import reached_s as of_bench  # type: ignore[import-not-found]
    at_s, wanted = np.arange(len(curve)).astype(float), np.array(counts, float)
    assert np.array_equal(reached_s(wanted, at_s, curve), of_bench(wanted, at_s, curve))


def test_what_comes_evenly_is_as_late_as_it_is() -> None:
    """A hundred a second, done seven seconds later; those of before the first sample are not known to be as quick."""
    at_s = np.arange(0.0, 100.0, 2.0)
    made = 100 * at_s
    found = spread(at_s, made, made, np.maximum(0, made - 700))
    assert found is not None
    assert found["p50"] == {"s": pytest.approx(7.0), "least": False}
    assert found["p99"] == {"s": pytest.approx(7.0), "least": False}


def test_what_is_never_done_is_told() -> None:
    """A trainer that hangs: its times are at least as long as it has been watched."""
    at_s = np.arange(0.0, 60.0, 2.0)
    made = np.minimum(100 * at_s, 500)
    found = spread(at_s, made, made, np.zeros(len(at_s)))
    assert found is not None
    assert found["p50"]["least"]
    assert found["p50"]["s"] > 50


def test_a_backlog_of_before_is_told() -> None:
    """All was made before the first look; what is learned now is at least as old as the looking."""
    at_s = np.arange(0.0, 60.0, 2.0)
    made = np.full(len(at_s), 5000.0)
    found = spread(at_s, made, made, 50 * at_s)
    assert found is not None
    assert found["p50"]["least"]
    assert found["p50"]["s"] > 25


def test_what_waits_for_a_moment_and_is_no_example_does_not_count() -> None:
    """Heartbeats between two examples are in the lag of a trainer, and are never learned."""
    at_s = np.arange(0.0, 40.0, 2.0)
    done, more = 100 * at_s, np.arange(len(at_s)) % 2
    assert spread(at_s, done + 30 * more, done + 30 * more, done)["p50"]["s"] < 2  # type: ignore[index]
    still = np.full(len(at_s), 100.0)
    assert spread(at_s, still + (LEAST - 1) * more, still + (LEAST - 1) * more, still) is None


def test_a_trainer_that_began_later_has_no_backlog_of_before() -> None:
    """What it has passed over, or Kafka has dropped, was made and never comes to it; what is on its way does."""
    at_s = np.arange(0.0, 100.0, 2.0)
    made, on_its_way = 9000 + 100 * at_s, np.where(np.arange(len(at_s)) % 5, 200, 0)
    found = spread(at_s, made, made - 9000 - on_its_way, np.maximum(0, made - 9000 - 700))
    assert found is not None
    assert found["p50"] == {"s": pytest.approx(7.0), "least": False}


def test_workers_that_are_not_all_watched_say_nothing() -> None:
    """They have made less than is learned."""
    at_s = np.arange(0.0, 100.0, 2.0)
    assert spread(at_s, 50 * at_s, 100 * at_s, 100 * at_s) is None


def test_samples_begin_anew() -> None:
    """After a pause without looks, and where a count falls; nothing is told where a count is unknown."""
    delays = Delays()

    def look(at_s: float, made: float | None, done: float = 0) -> bool:
        found = delays.look(at_s, {"learnt": None if made is None else Counts(made, made, done)})
        return found["learnt"] is not None

    assert [look(0, 0), look(2, 100), look(4, 200, 100)] == [False, True, True]
    assert [look(6, None), look(8, 300, 200), look(10, 400, 300)] == [False, True, True]
    assert [look(12, 500, 100), look(14, 500, 200)] == [False, True]
    assert [look(15 + GAP_S, 900, 300), look(17 + GAP_S, 1000, 400)] == [False, True]


def test_an_outage_is_told_afterwards() -> None:
    """Sixty a second come; the worker is away from 60 to 105 s, as are its counts, and has taken all at its return."""
    delays = Delays()
    told = {}
    for at_s in range(0, 500, 2):
        counts = None if 60 <= at_s < 105 else Counts(60.0 * at_s, 60.0 * at_s, 60.0 * at_s)
        told[at_s] = delays.look(at_s, {"taken": counts})["taken"]
    assert told[58]["p99"]["s"] < 1
    assert {told[at_s] for at_s in range(60, 105, 2)} == {None}
    assert told[106]["p99"]["s"] == pytest.approx(45, abs=4)
    assert told[106]["p50"] == {"s": pytest.approx(4, abs=4), "least": False}
    assert told[340]["p99"]["s"] > 40
    assert [told[at_s]["p99"] for at_s in (400, 498)] == [{"s": pytest.approx(0, abs=1), "least": False}] * 2


def test_looks_that_were_not_made_are_no_outage() -> None:
    """A page that is opened again knows nothing of the time between."""
    delays = Delays()
    for at_s in (0, 2, 4):
        delays.look(at_s, {"taken": Counts(60.0 * at_s, 60.0 * at_s, 60.0 * at_s)})
    for at_s in (100, 102, 104):
        found = delays.look(at_s, {"taken": Counts(60.0 * at_s, 60.0 * at_s, 60.0 * at_s)})["taken"]
    assert found is not None
    assert found["p99"]["s"] < 1


def test_a_worker_that_is_missing_for_a_while_makes_no_time_shorter() -> None:
    """Half of what is made is unknown from 30 to 60 s: nothing is told then, and afterwards what is told is true."""
    delays = Delays()
    told = {}
    for at_s in range(0, 200, 2):
        made, done = 100.0 * at_s, max(0.0, 100.0 * (at_s - 7))
        seen = made / 2 if 30 <= at_s < 60 else made
        told[at_s] = delays.look(at_s, {"learnt": Counts(seen, seen, done)})["learnt"]
    assert told[28]["p50"] == {"s": pytest.approx(7.0), "least": False}
    assert all(told[at_s] is None for at_s in range(30, 60, 2))
    assert all(found is None or found["p50"]["least"] or found["p50"]["s"] > 6 for found in told.values())
    assert told[198]["p50"] == {"s": pytest.approx(7.0), "least": False}
