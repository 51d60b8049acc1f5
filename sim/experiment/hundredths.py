"""The parts of a stream by which every run is counted."""

from typing import Final

BUCKETS: Final = 100


def late_from(share: float) -> int:
    """Return the first bucket of the last share of a stream; a bucket at least."""
    return min(BUCKETS - round(share * BUCKETS), BUCKETS - 1)


def bucket_of(example: int, examples: int) -> int:
    """Return the bucket of an example by its number, of so many in the stream."""
    return min(example * BUCKETS // examples, BUCKETS - 1)
