"""One global order: the partitions of `examples` and `items` merged by event time, whatever order they arrived in.

A lane is one partition of one topic. Its clock is the largest time it has shown: of its records and of its heartbeats.
A record's place is its own time or, if its lane's clock has already passed that, the clock (counted as late). So places
never fall within a lane, and

    order = (place, items before examples, partition, offset)

is a function of the lanes' contents alone: neither the interleaving of the lanes nor the cutting into batches changes
it. A record leaves once its place lies below the clock of every lane, because nothing can come before it any more. A
lane whose last heartbeat says the end of time lets everything go, and a lane that was let go (idle for long, by wall
time) holds nobody back: that alone makes the order depend on arrival.
"""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Final, Literal, NamedTuple

from model.data.event_time import is_end
from model.errors import ModelError
from stream.example import END_OF_TIME_MS, Example

Topic = Literal["examples", "items"]
RANK: Final[dict[Topic, int]] = {"items": 0, "examples": 1}  # at one time a catalogue record precedes an example
BEGINNING_MS: Final = -(2**53)


class Placed(NamedTuple):
    """A record in its place; comparing two of them gives the global order."""

    place_ms: int
    rank: int
    partition: int
    offset: int
    before_ms: int  # its lane's clock when it came: a lane that is read again from here starts with it
    late: bool  # its own time lay behind that clock; this and the value are never compared: a lane's offsets differ
    value: Any

    @property
    def topic(self) -> Topic:
        """Give the topic it came from."""
        return "examples" if self.rank else "items"


class PartitionQueue:
    """One partition of one topic: what waits in it, in order, and how far its time has come."""

    __slots__ = ("clock_ms", "final_ms", "idle", "partition", "rank", "serial", "waiting")

    def __init__(self, rank: int, partition: int, clock_ms: int = BEGINNING_MS, serial: int = 0) -> None:
        self.rank, self.partition = rank, partition
        self.clock_ms, self.serial = clock_ms, serial
        self.final_ms = clock_ms  # of its latest example; behind a checkpoint at first the clock, which is no less
        self.waiting: deque[Placed] = deque()
        self.idle = False

    def put(self, time_ms: int, offset: int, value: Any) -> Placed:
        """Append a record at its place."""
        place_ms = max(time_ms, self.clock_ms)
        late = time_ms < self.clock_ms
        placed = Placed(place_ms, self.rank, self.partition, offset, self.clock_ms, late, value)
        self.clock_ms = place_ms
        self.waiting.append(placed)
        return placed


class Merge:
    """Put records and heartbeats in, take them out in the global order.

    Args:
        examples: partitions of topic `examples`.
        items: partitions of topic `items`; 0 where the topic does not exist.
    """

    def __init__(self, examples: int, items: int = 0) -> None:
        self.lanes: dict[Topic, list[PartitionQueue]] = {
            "examples": [PartitionQueue(RANK["examples"], p) for p in range(examples)],
            "items": [PartitionQueue(RANK["items"], p) for p in range(items)],
        }
        self.repeats = 0  # examples that came once more and were ignored
        self.late = 0  # records that came after their place: behind their lane's clock, or after being let go
        self.pending = 0  # records that wait
        self._last: Placed | None = None
        self._heads: list[Placed] = []  # heap: the first record of every lane that has any
        self._bound_ms: int | None = None  # None: to be computed again

    def put_example(self, offset: int, example: Example, message: bytes = b"") -> None:
        """Take an example, with the bytes it came in; one that was here before is ignored.

        Final times grow with the serials, so an old serial with a later time than any before is no repeat.

        Raises:
            ModelError: its serial does not follow the last one of its partition, or an old one is used anew.
        """
        lane = self.lanes["examples"][example.partition]
        if example.serial <= lane.serial:
            if example.final_ms > lane.final_ms:
                raise _renumbered(lane, offset, example)
            self.repeats += 1
            return
        if lane.serial and example.serial != lane.serial + 1:
            raise ModelError(
                f"Partition {example.partition} of examples goes from serial {lane.serial} to {example.serial} at "
                f"offset {offset}: {example.serial - lane.serial - 1} examples are missing (deleted by the topic's "
                "retention, perhaps). Start a trainer under another --name, which begins where the log begins."
            )
        lane.serial, lane.final_ms = example.serial, max(lane.final_ms, example.final_ms)
        self._put(lane, example.final_ms, offset, (example, message))

    def put_item(self, partition: int, offset: int, ts_ms: int, record: Any) -> None:
        """Take a record of the catalogue."""
        self._put(self.lanes["items"][partition], ts_ms, offset, record)

    def _put(self, lane: PartitionQueue, time_ms: int, offset: int, value: Any) -> None:
        placed = lane.put(time_ms, offset, value)
        self.late += placed.late
        if len(lane.waiting) == 1:
            heappush(self._heads, placed)
        self.pending += 1
        self._bound_ms = None

    def beat(self, topic: Topic, partition: int, watermark_ms: int) -> None:
        """Take a heartbeat: nothing older will follow in this partition."""
        lane = self.lanes[topic][partition]
        lane.clock_ms = max(lane.clock_ms, watermark_ms)
        self._bound_ms = None

    def pop(self) -> Placed | None:
        """Give the next record of the global order, or None while an earlier one may still come."""
        if not self._heads or self._heads[0].place_ms >= self._bound():
            return None
        placed = heappop(self._heads)
        lane = self.lanes[placed.topic][placed.partition]
        lane.waiting.popleft()
        if lane.waiting:
            heappush(self._heads, lane.waiting[0])
        self.pending -= 1
        self.late += not placed.late and self._last is not None and placed < self._last
        self._last = placed
        return placed

    def _bound(self) -> int:
        """Give the time below which nothing more can come."""
        if self._bound_ms is None:
            lowest_ms = min(self._held(), default=END_OF_TIME_MS)
            self._bound_ms = 2**63 if is_end(lowest_ms) else lowest_ms
        return self._bound_ms

    def _held(self) -> list[int]:
        """Give the clocks of the lanes that were not let go."""
        return [lane.clock_ms for lane in self._all() if not lane.idle]

    def _all(self) -> Iterator[PartitionQueue]:
        yield from self.lanes["examples"]
        yield from self.lanes["items"]

    def ahead(self, topic: Topic, partition: int) -> int:
        """Give how many records wait in a lane for others to catch up; 0 for a lane that holds the others back.

        Who reads may pause a lane that is far ahead, so that memory has a bound; never the one that all wait for, whose
        records may all be of one time.
        """
        lane = self.lanes[topic][partition]
        return len(lane.waiting) if lane.clock_ms > min(self._held(), default=BEGINNING_MS) else 0

    @property
    def first(self) -> Placed | None:
        """Give the first of those that wait; an earlier one may still come."""
        return self._heads[0] if self._heads else None

    @property
    def watermark_ms(self) -> int:
        """Give the event time up to which the order is known; of lanes that are all let go, what the furthest said."""
        return min(self._held(), default=max(lane.clock_ms for lane in self._all()))

    @property
    def ended(self) -> bool:
        """Tell whether nothing waits and nothing can come: every log is over (or, of `items`, let go)."""
        return not self.pending and all(
            is_end(lane.clock_ms) or (lane.idle and lane.rank == RANK["items"]) for lane in self._all()
        )

    def restore(self, topic: Topic, partition: int, clock_ms: int, serial: int) -> None:
        """Let a lane go on where a checkpoint left it."""
        lane = self.lanes[topic][partition]
        lane.clock_ms, lane.serial, lane.final_ms = clock_ms, serial, clock_ms
        self._bound_ms = None

    def let_go(self, topic: Topic, partition: int) -> None:
        """Let a silent partition no longer hold the others back."""
        self.lanes[topic][partition].idle = True
        self._bound_ms = None

    def take_back(self, topic: Topic, partition: int) -> None:
        """Wait for a partition again; what it brings below the others' progress leaves at once."""
        self.lanes[topic][partition].idle = False
        self._bound_ms = None


def _renumbered(lane: PartitionQueue, offset: int, example: Example) -> ModelError:
    return ModelError(
        f"A worker's store of partition {lane.partition} was made anew when Kafka had no longer all of its events: its "
        f"examples are numbered from 1 again, and {example.serial} at offset {offset} of examples is a new one, though "
        f"{lane.serial} were read before. Stop the workers, delete topic examples, run hstu topics create, start the "
        "workers and a trainer under another --name (another name alone would stop here too); or begin again under "
        "another stream.topic_prefix."
    )
