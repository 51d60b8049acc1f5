import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.counting.decay import DecayClock

HALF_LIFE_MS, START_MS = 1000, 1_700_000_000_000
times_ms = st.lists(st.integers(START_MS, START_MS + 2000 * HALF_LIFE_MS), min_size=1, max_size=8)


@given(times_ms, st.integers(-5 * HALF_LIFE_MS, 400 * HALF_LIFE_MS))
def test_weights_halve_each_half_life(every_ms: list[int], later_ms: int) -> None:
    """A weight as of a time is 2^(-age / half-life), by either way to ask for it, wherever the origin is."""
    clock = DecayClock(HALF_LIFE_MS)
    clock.advance(max(every_ms))
    at_ms = max(every_ms) + later_ms
    weights = clock.weights(np.array(every_ms))
    by_hand = [2.0 ** ((ts_ms - at_ms) / HALF_LIFE_MS) if ts_ms - at_ms > -900_000 else 0 for ts_ms in every_ms]
    assert clock.decayed(weights, at_ms) == pytest.approx(by_hand, rel=1e-9, abs=1e-250)
    assert weights * clock.factors(np.array([at_ms])) == pytest.approx(by_hand, rel=1e-9, abs=1e-250)


@given(st.lists(st.floats(0, 1e300), max_size=9), st.integers(-1100, 1100))
def test_decayed_sums_have_the_bits_of_ldexp(sums: list[float], halves: int) -> None:
    """Also where a sum, or what is left of it, is subnormal or zero; by less where the largest would be huge."""
    clock, found = DecayClock(HALF_LIFE_MS, origin=halves), np.array(sums)
    halves = min(halves, 256 - math.frexp(max(sums, default=0.0))[1])
    assert clock.decayed(found, 0).tolist() == np.ldexp(found, halves).tolist()


@pytest.mark.parametrize("half_life_ms", [1, 7_000, 1_000_000])
@pytest.mark.parametrize("times", [(START_MS, 10**12 * 7), (START_MS, 0), (0, 10**12 * 7)])
def test_time_may_go_any_way_either_way(half_life_ms: int, times: tuple[int, int]) -> None:
    """Over all times that events can have, counts stay finite, their squares too, and their proportions."""
    clock, sums = DecayClock(half_life_ms), np.zeros(3)
    for row, ts_ms in enumerate((*times, times[0])):
        sums = np.ldexp(sums, clock.advance(ts_ms))
        sums[row] += clock.weights(np.array([ts_ms]))[0]
    for at_ms in (0, *times, 10**12 * 7):
        counts, factors = clock.decayed(sums, at_ms), clock.factors(np.array([at_ms]))
        assert np.isfinite(counts**2).all()
        assert np.isfinite(sums * factors).all()
        assert counts[0] == counts[2]


@given(times_ms)
def test_moving_the_origin_scales_by_a_power_of_two(every_ms: list[int]) -> None:
    """A sum scaled by what `advance` returns has the bits of one at the new origin."""
    clock, moved = DecayClock(HALF_LIFE_MS), DecayClock(HALF_LIFE_MS)
    clock.advance(START_MS)
    moved.origin = clock.origin
    step = moved.advance(max(every_ms))
    assert step == clock.origin - moved.origin
    old = np.array([START_MS, START_MS + 7])
    assert np.array_equal(np.ldexp(clock.weights(old), step), moved.weights(old))


def test_the_origin_stays_while_times_are_near() -> None:
    """It moves only past 512 half-lives, so that sums are seldom scaled."""
    clock = DecayClock(HALF_LIFE_MS, origin=10)
    assert clock.advance(522 * HALF_LIFE_MS) == 0
    assert clock.advance(523 * HALF_LIFE_MS) == 10 - 523
    assert clock.origin == 523
