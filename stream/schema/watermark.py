"""Watermarks: how far event time has surely come in one partition, over its three source topics.

    watermark = min over the topics of (largest ts or heartbeat seen) - allowed lateness

Events with ts < watermark are joined; an event that arrives with ts < watermark is late. Only wall time can excuse a
silent topic: one that the shell calls idle does not hold the others back. Where all are idle the furthest decides.
"""

from collections.abc import Collection
from typing import Final

from stream.schema.topics import SourceTopic

NEVER_MS: Final = -(2**62)  # of a topic that has shown nothing yet


class Watermark:
    """The watermark of one partition; it never falls."""

    def __init__(self, lateness_ms: int, high_ms: list[int] | None = None, at_ms: int = NEVER_MS) -> None:
        self.lateness_ms = lateness_ms
        self.high_ms = high_ms or [NEVER_MS] * len(SourceTopic)
        self.at_ms = at_ms

    def saw(self, source: SourceTopic, ts_ms: int) -> None:
        """Note an event's or a heartbeat's time."""
        if ts_ms > self.high_ms[source]:
            self.high_ms[source] = ts_ms

    def advance(self, idle: Collection[SourceTopic] = ()) -> int:
        """Move to where the topics that are not idle allow, and give the watermark in ms."""
        busy = [high for source, high in enumerate(self.high_ms) if source not in idle]
        reached = min(busy) if busy else max(self.high_ms)
        if reached > NEVER_MS:
            self.at_ms = max(self.at_ms, reached - self.lateness_ms)
        return self.at_ms
