"""A replay into Kafka: a source's events in order, at a speed, from where an earlier replay of that name stopped.

    1. send     events to Kafka, which acknowledges them later
    2. count    those acknowledged up to the first hole, with the offsets behind them
    3. save     the count and the offsets, every SAVE_S (progress_file.py)

A replay killed between 1 and 3 has written records that are not counted. The next one finds them in Kafka and does not
write them again, so that the topics hold every event once. Heartbeats may be repeated, which is harmless.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sim.replay.kafka_sink import KafkaSink
from sim.replay.progress_file import ReplayState, load_state, save_state
from sim.replay.rate_limit import RateLimit
from sim.sources.recorded_log import fingerprint
from sim.sources.source import Source, SourceEvent, heartbeats, replay_events, total

SAVE_S: Final = 0.25
BEAT_S: Final = 1.0  # between heartbeats of a replay that waits
NAP_S: Final = 0.2
SHORTEST_WAIT_S: Final = 0.001


class Replay:
    """One replay under one name.

    Args:
        source: The source that is replayed.
        out: Where it is sent.
        path: The path of the progress file.
        limit: The speed.
        restart: Whether to begin again, in spite of the progress file.
        ends: Whether time ends with the log, so that nothing can follow it in its topics.
    """

    def __init__(
        self,
        source: Source,
        out: KafkaSink,
        path: Path,
        limit: RateLimit,
        *,
        restart: bool = False,
        ends: bool = True,
    ) -> None:
        self._source, self._out, self._path, self._limit = source, out, path, limit
        self.progress: Callable[[int], None] = lambda acknowledged: None  # called now and then
        tag = fingerprint(source.fingerprint, *sorted(out.places()))
        earlier = None if restart else load_state(path, tag)
        self.state = earlier or ReplayState(fingerprint=tag, total=total(source), offsets=out.ends())
        self.begun = earlier is not None
        """Whether an earlier process has begun it."""
        self._stopping, self._ends = False, ends
        self._saved_s = self._beaten_s = time.monotonic()
        if earlier and not earlier.complete:
            out.resume(earlier.acknowledged, earlier.offsets)

    def stop(self) -> None:
        """Make `run` end soon, with all that was sent acknowledged and counted."""
        self._stopping = True

    def run(self) -> bool:
        """Send what is left; return True if the log is over, False if it was stopped before.

        Raises:
            SimError: Kafka did not take a record.
        """
        if self.state.complete:
            return True
        self._save()
        over = False
        try:
            start = self.state.acknowledged
            for event in replay_events(self._source, self._out.partitions, start, ends=self._ends):
                if event.partition is None:
                    self._await(event)
                if self._stopping:
                    break
                self._out.send(event)
                self._tick()
            self._out.flush()
            over = not self._stopping
        finally:
            self._save(complete=over)
        return self.state.complete

    def _await(self, event: SourceEvent) -> None:
        while (wait_s := self._limit.wait_s(event.ts_ms)) > SHORTEST_WAIT_S and not self._stopping:
            time.sleep(min(wait_s, NAP_S))
            self._beat(event.ts_ms)
            self._tick()
        self._limit.passed(event.ts_ms)

    def _beat(self, next_ms: int) -> None:
        """Let event time pass in all topics and partitions while the replay waits."""
        if time.monotonic() - self._beaten_s >= BEAT_S:
            for beat in heartbeats(self._limit.reached_ms(next_ms), self._out.partitions):
                self._out.send(beat)
            self._beaten_s = time.monotonic()

    def _tick(self) -> None:
        if time.monotonic() - self._saved_s >= SAVE_S:
            self._out.settle()
            self._save()

    def _save(self, complete: bool = False) -> None:
        self.state.acknowledged = self._out.acknowledged
        self.state.offsets = {**self.state.offsets, **self._out.offsets}
        self.state.complete = complete
        save_state(self._path, self.state)
        self.progress(self.state.acknowledged)
        self._saved_s = time.monotonic()
