"""Event time: an hour and a day of it, and its end, the watermark that ends a log."""

from typing import Final

from stream.example import END_OF_TIME_MS

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_TEN_YEARS_MS: Final = 315_576_000_000


def is_end(watermark_ms: int) -> bool:
    """Return whether a watermark ends its log: the end of time, less the lateness that workers subtract."""
    return watermark_ms >= END_OF_TIME_MS - _TEN_YEARS_MS
