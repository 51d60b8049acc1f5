"""Event time: a day of it, and its end, the watermark that ends a log."""

from typing import Final

from stream.example import END_OF_TIME_MS

DAY_MS: Final = 86_400_000
_TEN_YEARS_MS: Final = 315_576_000_000


def is_end(watermark_ms: int) -> bool:
    """Return whether a watermark ends its log: the end of time, less the lateness that workers subtract."""
    return watermark_ms >= END_OF_TIME_MS - _TEN_YEARS_MS
