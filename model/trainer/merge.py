"""One global order: the partitions of `examples` and `items` merged by event time, whatever order they arrived in.

There is a queue for each partition of each topic. A queue's clock is the largest time that it has seen, of its records
and of its heartbeats. A record gets a place in time, place_ms: its own time or, if its queue's clock has already passed
that, the clock (it is then counted as late). So places never decrease within a queue, and

    order = (place_ms, items before examples, partition, offset)

is a function of the queues' contents alone: neither the interleaving of the queues nor the cutting into batches changes
it. A record leaves once its place lies below the clock of every queue, because nothing can come before it any more. A
queue whose last heartbeat is the end of time holds no other back. Nor does an idle queue (silent for long, by wall
time): idle queues alone make the order depend on arrival.
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
    """A record with its place in the global order, by which two of them compare."""

    place_ms: int
    rank: int
    partition: int
    offset: int
    before_ms: int  # clock of the queue when the record came: reading again from here must start with it
    late: bool  # its own time lay behind that clock; this and the value never decide: offsets of a queue differ
    value: Any

    @property
    def topic(self) -> Topic:
        """The topic it came from."""
        return "examples" if self.rank else "items"


class PartitionQueue:
    """One partition of one topic: its waiting records in order, and its clock."""

    __slots__ = ("clock_ms", "final_ms", "idle", "partition", "rank", "serial", "waiting")

    def __init__(self, rank: int, partition: int, clock_ms: int = BEGINNING_MS, serial: int = 0) -> None:
        self.rank, self.partition = rank, partition
        self.clock_ms, self.serial = clock_ms, serial
        self.final_ms = clock_ms  # of its latest example; after a resume the clock, which is no less
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
    """Takes records and heartbeats, and returns the records in the global order.

    Args:
        examples: Number of partitions of topic `examples`.
        items: Number of partitions of topic `items`; 0 where the topic does not exist.
    """

    def __init__(self, examples: int, items: int = 0) -> None:
        self.queues: dict[Topic, list[PartitionQueue]] = {
            "examples": [PartitionQueue(RANK["examples"], p) for p in range(examples)],
            "items": [PartitionQueue(RANK["items"], p) for p in range(items)],
        }
        self.repeats = 0  # examples that came once more and were ignored
        self.late = 0  # records that came after their place: behind their queue's clock, or after it was idle
        self.pending = 0  # records that wait
        self._last: Placed | None = None
        self._heads: list[Placed] = []  # heap: the first record of every queue that has any
        self._bound_ms: int | None = None  # None: to be computed again

    def put_example(self, offset: int, example: Example, message: bytes = b"") -> None:
        """Take an example, with the bytes it came in; ignore one that was here before.

        Final times grow with the serials, so an old serial with a later time than any before is no repeat.

        Raises:
            ModelError: The serial does not follow the last one of its partition, or is an old one of a new example.
        """
        queue = self.queues["examples"][example.partition]
        if example.serial <= queue.serial:
            if example.final_ms > queue.final_ms:
                raise _renumbered(queue, offset, example)
            self.repeats += 1
            return
        if queue.serial and example.serial != queue.serial + 1:
            raise ModelError(
                f"Partition {example.partition} of examples goes from serial {queue.serial} to {example.serial} at "
                f"offset {offset}: {example.serial - queue.serial - 1} examples are missing (deleted by the topic's "
                "retention, perhaps). Start a trainer under another --name, which begins where the log begins."
            )
        queue.serial, queue.final_ms = example.serial, max(queue.final_ms, example.final_ms)
        self._put(queue, example.final_ms, offset, (example, message))

    def put_item(self, partition: int, offset: int, ts_ms: int, record: Any) -> None:
        """Take a record of the catalogue."""
        self._put(self.queues["items"][partition], ts_ms, offset, record)

    def _put(self, queue: PartitionQueue, time_ms: int, offset: int, value: Any) -> None:
        placed = queue.put(time_ms, offset, value)
        self.late += placed.late
        if len(queue.waiting) == 1:
            heappush(self._heads, placed)
        self.pending += 1
        self._bound_ms = None

    def beat(self, topic: Topic, partition: int, watermark_ms: int) -> None:
        """Take a heartbeat: nothing older will follow in this partition."""
        queue = self.queues[topic][partition]
        queue.clock_ms = max(queue.clock_ms, watermark_ms)
        self._bound_ms = None

    def pop(self) -> Placed | None:
        """Return the next record of the global order, or None while an earlier one may still come."""
        if not self._heads or self._heads[0].place_ms >= self._bound():
            return None
        placed = heappop(self._heads)
        queue = self.queues[placed.topic][placed.partition]
        queue.waiting.popleft()
        if queue.waiting:
            heappush(self._heads, queue.waiting[0])
        self.pending -= 1
        self.late += not placed.late and self._last is not None and placed < self._last
        self._last = placed
        return placed

    def _bound(self) -> int:
        """Return the time below which nothing more can come."""
        if self._bound_ms is None:
            lowest_ms = min(self._clocks(), default=END_OF_TIME_MS)
            self._bound_ms = 2**63 if is_end(lowest_ms) else lowest_ms
        return self._bound_ms

    def _clocks(self) -> list[int]:
        """Return the clocks of the queues that are not idle."""
        return [queue.clock_ms for queue in self._all() if not queue.idle]

    def _all(self) -> Iterator[PartitionQueue]:
        yield from self.queues["examples"]
        yield from self.queues["items"]

    def ahead(self, topic: Topic, partition: int) -> int:
        """Return how many records of a queue wait for other queues; 0 for a queue that the others wait for.

        A reader may pause a partition that is far ahead, to bound memory, but never the one that all wait for: its
        records may all be of one time.
        """
        queue = self.queues[topic][partition]
        return len(queue.waiting) if queue.clock_ms > min(self._clocks(), default=BEGINNING_MS) else 0

    @property
    def first(self) -> Placed | None:
        """The first of the waiting records; an earlier one may still come."""
        return self._heads[0] if self._heads else None

    @property
    def watermark_ms(self) -> int:
        """Event time up to which the order is known; where all queues are idle, the largest of their clocks."""
        return min(self._clocks(), default=max(queue.clock_ms for queue in self._all()))

    @property
    def ended(self) -> bool:
        """Whether nothing waits and nothing can come: every log is over (or, of `items`, idle)."""
        return not self.pending and all(
            is_end(queue.clock_ms) or (queue.idle and queue.rank == RANK["items"]) for queue in self._all()
        )

    def restore(self, topic: Topic, partition: int, clock_ms: int, serial: int) -> None:
        """Set a queue to what a checkpoint says of it."""
        queue = self.queues[topic][partition]
        queue.clock_ms, queue.serial, queue.final_ms = clock_ms, serial, clock_ms
        self._bound_ms = None

    def ignore(self, topic: Topic, partition: int) -> None:
        """Stop waiting for a partition that was silent for long."""
        self.queues[topic][partition].idle = True
        self._bound_ms = None

    def wait_for(self, topic: Topic, partition: int) -> None:
        """Wait for a partition again; its records that lie behind the others' progress leave at once."""
        self.queues[topic][partition].idle = False
        self._bound_ms = None


def _renumbered(queue: PartitionQueue, offset: int, example: Example) -> ModelError:
    return ModelError(
        f"A worker's store of partition {queue.partition} was made again when Kafka had no longer all of its events: "
        f"its examples are numbered from 1 again, and {example.serial} at offset {offset} of examples is a new one, "
        f"though {queue.serial} were read before. Stop the workers, delete topic examples, run hstu topics create, "
        "start the workers and a trainer under another --name (another name alone would stop here too); or begin again "
        "under another stream.topic_prefix."
    )
