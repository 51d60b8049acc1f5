"""The rate boost: its ratio, its end, and what it is without one."""

from model.drift.rate_boost import RateBoost


def test_a_boost_ends_after_its_steps() -> None:
    """An alarm within it begins it anew; before the first alarm and after the last step rates are as ever."""
    boost = RateBoost(3.0, 2)
    assert boost.take() == 1.0
    boost.begin()
    assert boost.take() == 3.0
    boost.begin()
    assert [boost.take() for _ in range(4)] == [3.0, 3.0, 1.0, 1.0]


def test_a_ratio_of_one_is_no_boost() -> None:
    """Nothing is counted, so that a run without boosts is the same to the bit."""
    boost = RateBoost(1.0, 500)
    boost.begin()
    assert (boost.on, boost.left, boost.take()) == (False, 0, 1.0)
