"""Random numbers of a scenario: one stream for each seed, use and number, and always the same."""

import numpy as np

from sim.world.rng import Use, rng_for, rng_named


def test_each_seed_use_and_number_has_its_own_stream() -> None:
    """So that what one drift draws does not change another."""
    draws = {
        (seed, use, number): rng_for(seed, use, number).random(4).tobytes()
        for seed in (0, 1, 2**64 - 1)
        for use in Use
        for number in (0, 1, 2**63)
    }
    assert len(set(draws.values())) == len(draws)
    named = {(name, number): rng_named(3, name, number).random(4).tobytes() for name in "ab" for number in (0, 1)}
    assert len(set(named.values())) == len(named)
    assert not set(named.values()) & set(draws.values())


def test_the_streams_are_those_of_the_first_version() -> None:
    """Another order of uses would change every scenario without a word."""
    assert [use.name for use in Use] == [
        *("USERS", "TASTES", "VISITS", "ITEMS", "SHOCK", "CHOICE", "EXPLORE", "CLICKS", "DELAYS", "NAMED")
    ]
    assert list(Use) == list(range(len(Use)))
    key = np.array([7, 5], np.uint64)
    by_hand = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, 6]))
    assert rng_for(7, Use.EXPLORE, 5).random(3).tolist() == by_hand.random(3).tolist()
