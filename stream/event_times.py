"""Event times as a user writes them on the command line."""

from datetime import UTC, datetime

from stream.errors import HstuError
from stream.schema.tokens import END_OF_TIME_MS


def event_time(text: str) -> int:
    """Return an event time in ms: a whole number of ms, or ISO 8601, in UTC where it names no zone.

    Raises:
        HstuError: It is neither, or after the end of time.
    """
    if text.isascii() and text.isdigit():
        if len(text) > len(str(END_OF_TIME_MS)) or int(text) > END_OF_TIME_MS:
            raise HstuError(f"--as-of is {text[:80]}; give at most {END_OF_TIME_MS} ms, the end of time.")
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise HstuError(f"--as-of is {text!r}; give ms since 1970, or a time such as 2024-05-01T12:00.") from None
    return round(1000 * (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
