"""One global order: the partitions of `examples` and `items` merged by event time, whatever order they arrived in.

There is a queue for each partition of each topic. A queue's clock is the largest time that it has seen, of its records
and of its heartbeats. A record gets a place in time, place_ms: its own time or, if its queue's clock has already passed
that, the clock (it is then counted as late). So places never decrease within a queue, and

    order = (place_ms, items before examples, partition, offset)

is a function of the queues' contents alone: neither the interleaving of the queues nor the cutting into batches changes
it. A record leaves once its place lies below the clock of every queue, because nothing can come before it any more. So
all wait for the queue that is furthest behind (`waits_for`), however long it takes: workers write heartbeats into
silent topics. A queue whose last heartbeat is the end of time holds no other back.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Final, Literal, NamedTuple

from model.data.event_time import is_end
from model.errors import ModelError
from stream.example import NO_PARENT, Example, Record, message_digest

Topic = Literal["examples", "items"]
RANK: Final[dict[Topic, int]] = {"items": 0, "examples": 1}  # at one time a catalogue record precedes an example
BEGINNING_MS: Final = -(2**53)
_RECORD_BYTES: Final = 2_000  # of one record in memory, besides its message


def size_of(record: Record) -> int:
    """Return the bytes of a record in memory before it is decoded, about."""
    return _RECORD_BYTES + len(record.value or b"")


class Placed(NamedTuple):
    """A record with its place in the global order, by which two of them compare."""

    place_ms: int
    rank: int
    partition: int
    offset: int
    before_ms: int  # clock of the queue when the record came: reading again from here must start with it
    late: bool  # its own time lay behind that clock; this and what follows never decide: offsets of a queue differ
    size: int  # bytes in memory, about
    value: Any

    @property
    def topic(self) -> Topic:
        """The topic it came from."""
        return "examples" if self.rank else "items"


class PartitionQueue:
    """One partition of one topic: its waiting records in order, and its clock."""

    __slots__ = ("bytes", "clock_ms", "digest", "final_ms", "partition", "rank", "serial", "waiting")

    def __init__(self, rank: int, partition: int, clock_ms: int = BEGINNING_MS, serial: int = 0) -> None:
        self.rank, self.partition = rank, partition
        self.clock_ms, self.serial = clock_ms, serial
        self.digest = NO_PARENT  # of the message with that serial (stream/example.py)
        self.final_ms = clock_ms  # of the example with that serial, at most
        self.waiting: deque[Placed] = deque()
        self.bytes = 0  # of these

    @property
    def topic(self) -> Topic:
        """The topic that it is a partition of."""
        return "examples" if self.rank else "items"

    def put(self, time_ms: int, offset: int, size: int, value: Any) -> Placed:
        """Append a record at its place."""
        place_ms = max(time_ms, self.clock_ms)
        late = time_ms < self.clock_ms
        placed = Placed(place_ms, self.rank, self.partition, offset, self.clock_ms, late, size, value)
        self.clock_ms = place_ms
        self.waiting.append(placed)
        self.bytes += size
        return placed


@dataclass(frozen=True, slots=True)
class Naming:
    """How a refusal names what it is about, and the way on."""

    topic_prefix: str = ""
    trainer: str = "OLD"
    successor: Callable[[], str] = lambda: "NEW"
    """Returns a name that no trainer has yet."""

    @property
    def command(self) -> str:
        """The command that goes on with what was learned, under a new name."""
        return f"hstu train --name {self.successor()} --weights-from {self.trainer}"


DEFAULT_NAMING: Final = Naming()


class Merge:
    """Takes records and heartbeats, and returns the records in the global order.

    Args:
        examples: Number of partitions of topic `examples`.
        items: Number of partitions of topic `items`; 0 where the topic does not exist.
        naming: For refusals.
    """

    def __init__(self, examples: int, items: int = 0, naming: Naming = DEFAULT_NAMING) -> None:
        self.queues: dict[Topic, list[PartitionQueue]] = {
            "examples": [PartitionQueue(RANK["examples"], p) for p in range(examples)],
            "items": [PartitionQueue(RANK["items"], p) for p in range(items)],
        }
        self._naming = naming
        self.repeats = 0  # examples that came once more and were ignored
        self.late = 0  # records that came after their place, behind their queue's clock
        self.pending = self.pending_bytes = 0  # records that wait
        self._heads: list[Placed] = []  # heap: the first record of every queue that has any
        self._bound_ms: int | None = None  # None: to be computed again

    def put_example(self, offset: int, example: Example, message: bytes) -> None:
        """Take an example, with the bytes it came in; ignore one that was here before.

        Each message names the digest of the one before it, so that two logs which differ anywhere are told apart before
        anything new of the other is taken. Final times grow with the serials: an old serial with a later time than any
        before is no repeat either.

        Raises:
            ModelError: The serial does not follow the last one of its partition, or the example is one of another log.
        """
        queue = self.queues["examples"][example.partition]
        digest = message_digest(message)
        if example.serial <= queue.serial:
            if example.final_ms > queue.final_ms or (example.serial == queue.serial and digest != queue.digest):
                raise self._forked(queue, offset, example)
            self.repeats += 1
            return
        if queue.serial and example.serial != queue.serial + 1:
            raise ModelError(
                f"Partition {example.partition} of {self._examples} goes from serial {queue.serial} to "
                f"{example.serial} at offset {offset}: {example.serial - queue.serial - 1} examples are missing "
                f"(deleted by the topic's retention, perhaps). {self._ways_on()}"
            )
        if queue.serial and example.parent != queue.digest:
            raise self._forked(queue, offset, example)
        queue.serial, queue.digest = example.serial, digest
        queue.final_ms = max(queue.final_ms, example.final_ms)
        self._put(queue, example.final_ms, offset, _RECORD_BYTES + 2 * len(message), (example, message))

    def put_farewell(self, offset: int, example: Example, message: bytes) -> None:
        """Take an example that says who is forgotten, from among those that are passed over.

        It follows no example, and none follows it, here as in a run that goes on from a checkpoint made before it.
        """
        alone = replace(example, serial=1, parent=NO_PARENT)
        queue, size = self.queues["examples"][example.partition], _RECORD_BYTES + 2 * len(message)
        self._put(queue, example.final_ms, offset, size, (alone, message))

    def _forked(self, queue: PartitionQueue, offset: int, example: Example) -> ModelError:
        return ModelError(
            f"Example {example.serial} at offset {offset} of {self._examples}, partition {queue.partition}, belongs "
            f"to another log than the {queue.serial} read before: a worker's store was made again under other "
            "settings, or from other events (Kafka has lost or deleted some), so the same serials stand for other "
            f"examples. Nothing of it was trained on. {self._ways_on()}"
        )

    @property
    def _examples(self) -> str:
        return f"{self._naming.topic_prefix}examples"

    def _ways_on(self) -> str:
        since_ms = max(queue.final_ms for queue in self.queues["examples"]) + 1
        return (
            f"Go on with what was learned by {self._naming.command} --since {since_ms}, which passes over older "
            "examples; without --weights-from it begins with no weights there (docs/recovery.md)."
        )

    def put_item(self, partition: int, offset: int, ts_ms: int, record: Any, size: int = 0) -> None:
        """Take a record of the catalogue, with what goes with it, whose message has `size` bytes."""
        self._put(self.queues["items"][partition], ts_ms, offset, _RECORD_BYTES + 2 * size, record)

    def _put(self, queue: PartitionQueue, time_ms: int, offset: int, size: int, value: Any) -> None:
        placed = queue.put(time_ms, offset, size, value)
        self.late += placed.late
        if len(queue.waiting) == 1:
            heappush(self._heads, placed)
        self.pending += 1
        self.pending_bytes += size
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
        queue.bytes -= placed.size
        self.pending_bytes -= placed.size
        if queue.waiting:
            heappush(self._heads, queue.waiting[0])
        self.pending -= 1
        return placed

    def _bound(self) -> int:
        """Return the time below which nothing more can come."""
        if self._bound_ms is None:
            lowest_ms = min(queue.clock_ms for queue in self._all())
            self._bound_ms = 2**63 if is_end(lowest_ms) else lowest_ms
        return self._bound_ms

    def _all(self) -> Iterator[PartitionQueue]:
        yield from self.queues["examples"]
        yield from self.queues["items"]

    def ahead(self, topic: Topic, partition: int) -> int:
        """Return how many bytes of a queue wait for other queues; 0 for a queue that the others wait for.

        A reader may pause a partition that is far ahead, to bound memory, but never the one that all wait for: its
        records may all be of one time.
        """
        queue = self.queues[topic][partition]
        return queue.bytes if queue.clock_ms > min(queue.clock_ms for queue in self._all()) else 0

    @property
    def first(self) -> Placed | None:
        """The first of the waiting records; an earlier one may still come."""
        return self._heads[0] if self._heads else None

    @property
    def watermark_ms(self) -> int:
        """Event time up to which the order is known."""
        return min(queue.clock_ms for queue in self._all())

    @property
    def waits_for(self) -> PartitionQueue | None:
        """The queue that holds back what waits, None while nothing is held back."""
        if not self._heads or self._heads[0].place_ms < self._bound():
            return None
        return min(self._all(), key=lambda queue: queue.clock_ms)

    @property
    def ended(self) -> bool:
        """Whether nothing waits and nothing can come: every log is over."""
        return not self.pending and all(is_end(queue.clock_ms) for queue in self._all())

    def restore(self, topic: Topic, partition: int, clock_ms: int) -> PartitionQueue:
        """Set a queue's clock to what a checkpoint says of it, and return the queue."""
        queue = self.queues[topic][partition]
        queue.clock_ms = clock_ms
        self._bound_ms = None
        return queue
