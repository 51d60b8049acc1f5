"""Times on the command line."""

import pytest

from stream.errors import HstuError
from stream.event_times import event_time


@pytest.mark.parametrize(
    ("text", "ts_ms"),
    [
        ("1700000000001", 1700000000001),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01.5", 1500),
        ("1970-01-01T02:00+02:00", 0),
    ],
)
def test_a_time_is_ms_or_iso_8601(text: str, ts_ms: int) -> None:
    """In UTC where it names no zone."""
    assert event_time(text) == ts_ms


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("yesterday", "'yesterday'; give ms since 1970"), ("9007199254740992", "at most 9007199254740991 ms")],
)
def test_anything_else_is_a_sentence(text: str, sentence: str) -> None:
    """It names the option and what it takes."""
    with pytest.raises(HstuError, match=f"--as-of is .*{sentence}"):
        event_time(text)
