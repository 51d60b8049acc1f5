"""The end of event time: the watermark that ends a log."""

from typing import Final

from stream.example import END_OF_TIME_MS

_TEN_YEARS_MS: Final = 315_576_000_000


def is_end(watermark_ms: int) -> bool:
    """Return whether a watermark ends its log: the end of time, less the lateness that workers subtract."""
    return watermark_ms >= END_OF_TIME_MS - _TEN_YEARS_MS
