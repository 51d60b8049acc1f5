"""The speed of a replay."""

import pytest
from hypothesis import given, strategies as st

from sim.errors import SimError
from sim.replay.rate_limit import RateLimit, Speed, parse_speed


class Clock:
    """A clock to set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("max", Speed()),
        ("5000/s", Speed(events_per_s=5000)),
        ("0.5/s", Speed(events_per_s=0.5)),
        ("60x", Speed(times_recorded=60)),
    ],
)
def test_speeds_are_read(text: str, speed: Speed) -> None:
    """As fast as possible, events a second, or a multiple of recorded time."""
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "0/s", "0x", "-5/s", "fast", "", "60", "5000 / s", "nanx", "infx", "1e3/s"])
def test_nonsense_is_refused(text: str) -> None:
    """The error lists what is possible; 60 alone could mean either."""
    with pytest.raises(SimError, match=r"is no speed; give max, events a second \(5000/s\), or a multiple"):
        parse_speed(text)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30).map(sorted), st.sampled_from(["4/s", "60x"]))
def test_events_are_due_when_the_speed_says(times_ms: list[int], text: str) -> None:
    """The first at once, others by their number or their recorded time; a late one does not wait."""
    clock = Clock()
    limit = RateLimit(parse_speed(text), clock)
    for n, ts_ms in enumerate(times_ms):
        due_s = 100 + (n / 4 if text == "4/s" else (ts_ms - times_ms[0]) / 60_000)
        assert limit.wait_s(ts_ms) == pytest.approx(due_s - clock.now_s)
        clock.now_s = max(clock.now_s, due_s)
        assert limit.wait_s(ts_ms) == pytest.approx(min(0, due_s - clock.now_s))
        limit.passed(ts_ms)


def test_the_fastest_never_waits() -> None:
    """Not even for an event years ahead."""
    limit = RateLimit(Speed(), Clock())
    assert not limit.limited
    assert limit.wait_s(10**13) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 100))
def test_event_time_goes_on_while_waiting_but_not_past_the_next_event(first: int, gap: int, waited_s: int) -> None:
    """So a heartbeat may carry it: nothing older will follow."""
    clock = Clock()
    limit = RateLimit(parse_speed("10x"), clock)
    limit.wait_s(first)
    limit.passed(first)
    limit.wait_s(first + gap)
    clock.now_s += waited_s
    assert limit.reached_ms(first + gap) == first + min(gap, waited_s * 10_000)


def test_at_a_rate_the_time_reached_is_that_of_the_last_event() -> None:
    """Recorded time is no measure of the time that passes."""
    clock = Clock()
    limit = RateLimit(parse_speed("1/s"), clock)
    for ts_ms in (5, 9):
        limit.wait_s(ts_ms)
        limit.passed(ts_ms)
    clock.now_s += 50
    assert limit.reached_ms(1000) == 9
