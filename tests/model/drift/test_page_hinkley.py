"""Page-Hinkley: false alarms of noise, delay of a rise, and a state that goes through JSON."""

import json

import numpy as np
import pytest

from model.drift.page_hinkley import HORIZON, WARM_UP, PageHinkley


def alarms(values: np.ndarray) -> list[int]:
    test = PageHinkley()
    return [place for place, value in enumerate(values.tolist()) if test.add(value)]


def test_noise_is_seldom_an_alarm_and_a_rise_soon_is() -> None:
    """Of normal noise one block in hundreds; of a rise by two deviations within ten blocks; of a fall none."""
    rng = np.random.default_rng(0)
    noise = rng.normal(5, 0.3, (40, 500))
    false = sum(len(alarms(row)) for row in noise)
    assert false / noise.size < 1 / 800
    delays = []
    for row in noise:
        risen = row + 0.6 * (np.arange(500) >= 250)
        delays.append(next((at for at in alarms(risen) if at >= 250), 999) - 250)
    assert np.median(delays) <= 10
    assert sum(len(alarms(row - 0.6 * (np.arange(500) >= 250))) for row in noise) <= false + 2


def test_what_rises_slowly_is_followed() -> None:
    """A value that climbs by less than a deviation within the horizon is no alarm."""
    rng = np.random.default_rng(1)
    climbing = rng.normal(0, 1, 400) + 0.25 * np.arange(400) / HORIZON
    assert alarms(climbing) == []


def test_the_first_values_and_constant_ones_are_none() -> None:
    """Nothing is tested before its mean is known; what never moves has no deviation."""
    assert alarms(np.array([0.0] * (WARM_UP - 1) + [100.0])) == []
    assert alarms(np.full(500, 0.25)) == []


def test_a_second_rise_is_found_though_the_first_takes_time_to_fade() -> None:
    """What follows an alarm is no reference: of two rises that fade alike the second is found nearly as often."""
    rng, at = np.random.default_rng(3), np.arange(90)
    faded = sum(np.where(at >= start, 1 + 2 * np.exp(-np.maximum(at - start, 0) / 8), 0) for start in (25, 65))
    found = [alarms(row + faded) for row in rng.normal(0, 1, (300, 90))]
    after = [[any(start <= each < start + 10 for each in row) for start in (25, 65)] for row in found]
    first, both = sum(one for one, _ in after), sum(one and two for one, two in after)
    assert first > 0.85 * len(found)
    assert both > 0.8 * first


@pytest.mark.parametrize("at", [3, 60])
def test_the_state_is_all_there_is(at: int) -> None:
    """A detector that goes through JSON goes on with the same alarms."""
    values = np.random.default_rng(2).normal(0, 1, 120) + 3 * (np.arange(120) >= 70)
    whole, half = PageHinkley(), PageHinkley()
    for value in values[:at].tolist():
        whole.add(value)
        half.add(value)
    resumed = PageHinkley()
    resumed.load_state(json.loads(json.dumps(half.state())))
    rest = values[at:].tolist()
    assert [whole.add(value) for value in rest] == [resumed.add(value) for value in rest]
    assert whole.state() == resumed.state()


def test_an_outlier_does_not_hide_what_follows() -> None:
    """A jump that fades is an alarm at its second value; one outlier alone, however large, is none."""
    calm = np.full(40, 0.01)
    test = PageHinkley(0.02)
    assert [test.add(value) for value in (*calm, 3.7, 1.3)] == [False] * 41 + [True]
    alone = PageHinkley(0.02)
    assert not any(alone.add(value) for value in (*calm, 1e9, *calm))
