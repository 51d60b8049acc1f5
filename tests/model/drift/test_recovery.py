"""Recovery from a drift: when it begins, when it has ended, and a state that goes through JSON."""

import json

from model.drift.page_hinkley import Level
from model.drift.recovery import BLOCKS, Recovery

BEFORE = Level(0.4, 0.05)


def test_it_ends_once_misses_are_back() -> None:
    """By the mean of the last blocks, not by one of them; one deviation more than before is allowed."""
    recovery = Recovery()
    assert not recovery.waiting
    recovery.begin("loss", 2000, BEFORE)
    for misses in (*[0.6] * BLOCKS, *[0.4] * (BLOCKS - 2)):
        recovery.add(misses)
        assert recovery.waiting
    recovery.add(0.4)  # a mean of 0.44
    assert not recovery.waiting
    recovery.add(0.9)
    assert not recovery.waiting


def test_a_second_alarm_keeps_the_level_of_before_the_first() -> None:
    """What the model misses while it recovers is not what it has to come back to."""
    recovery = Recovery()
    recovery.begin("loss", 2000, BEFORE)
    for _ in range(BLOCKS - 1):
        recovery.add(0.3)
    recovery.begin("misses", 3000, Level(0.8, 0.1))
    assert (recovery.before, recovery.targets, recovery.signal, recovery.of_late) == (BEFORE, 3000, "misses", None)
    recovery.add(0.3)
    assert recovery.waiting
    for _ in range(BLOCKS - 1):
        recovery.add(0.3)
    assert not recovery.waiting


def test_without_tests_there_is_nothing_to_follow() -> None:
    """Where no target is ranked among items, an alarm holds nothing."""
    recovery = Recovery()
    recovery.begin("loss", 2000, None)
    assert not recovery.waiting


def test_the_state_is_all_there_is() -> None:
    """One that goes through JSON in the middle ends at the same block."""
    for at in range(2 * BLOCKS):
        whole, half = Recovery(), Recovery()
        for recovery in (whole, half):
            recovery.begin("loss", 2000, BEFORE)
        ends = []
        for block in range(2 * BLOCKS):
            if block == at:
                resumed = Recovery()
                resumed.load_state(json.loads(json.dumps(half.state())))
                half = resumed
            for recovery in (whole, half):
                recovery.add(0.7 if block < 3 else 0.4)
            ends.append((whole.waiting, half.waiting))
        assert {a == b for a, b in ends} == {True}
        assert whole.state() == half.state()
