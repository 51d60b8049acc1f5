"""What a record's Kafka timestamp allows its event time to do."""

import pytest

from stream.schema.record_time import IDLE, REPLAY_HEADER, Headers, TimeBounds, is_idle, replay_headers
from tests.wire import Record

LIVE = Record(0, b"", timestamp=1000, headers=())


def replayed(headers: Headers) -> Record:
    return Record(0, b"", timestamp=1000, headers=headers)


def test_a_live_record_is_bounded_by_its_own_timestamp() -> None:
    """It may lie ahead by future_ms, and moves time to its timestamp at most; without a limit nothing is refused."""
    bounds = TimeBounds(future_ms=300)
    assert bounds.replayed_ms(LIVE) is None
    assert bounds.latest_ms(LIVE) == 1300
    assert (bounds.reached_ms(LIVE, 1200), bounds.reached_ms(LIVE, 900)) == (1000, 900)
    assert TimeBounds(future_ms=0).latest_ms(LIVE) is None


@pytest.mark.parametrize(
    ("value", "ts_ms"),
    [(b"7", 7), (b"", 1000), (b"x", 1000), (b"-5", 1000), (b"9" * 20, 1000), (b"0", 0), (None, 1000)],
)
def test_a_replayed_record_names_its_time(value: bytes | None, ts_ms: int) -> None:
    """One that names no time has that of its Kafka timestamp; whoever does not believe replays sees a live record."""
    record = replayed(((REPLAY_HEADER, value),))
    assert TimeBounds().replayed_ms(record) == ts_ms
    assert TimeBounds(replays=False).replayed_ms(record) is None


def test_the_headers_are_told_apart() -> None:
    """Other headers say nothing."""
    assert TimeBounds().replayed_ms(replayed(replay_headers(5))) == 5
    assert TimeBounds().replayed_ms(replayed((("trace", b"5"), *replay_headers(6)))) == 6
    assert is_idle(replayed(IDLE))
    assert not is_idle(replayed(replay_headers(5)))
    assert not is_idle(LIVE)
