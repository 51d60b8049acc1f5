"""When event time is over: the watermark that says the end of a log."""

from typing import Final

from stream.example import END_OF_TIME_MS

_TEN_YEARS_MS: Final = 315_576_000_000


def is_end(watermark_ms: int) -> bool:
    """Tell whether a watermark says that its log is over: the end of time, less whatever lateness workers subtract."""
    return watermark_ms >= END_OF_TIME_MS - _TEN_YEARS_MS
