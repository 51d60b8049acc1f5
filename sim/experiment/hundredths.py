"""The parts of a stream by which every run is counted."""

from typing import Final

BUCKETS: Final = 100
LATE: Final = 90  # first bucket of the last tenth
