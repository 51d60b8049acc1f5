"""Records that are read and not yet trained on: records in, micro-batches out, in the global order (merge.py).

A checkpoint holds what was trained on, and not what waits here. So it has a mark for each partition of both topics,
from which the partition is read again:

    offset              offset of the first record that is not trained on, or the next one
    clock_ms            clock of the partition's queue before that record
    serial, digest      serial of the last example before that record, and its message's digest (hex)
    final_ms            when it became final, at most
    tokens, sequences   what the last heartbeat said: number of tokens appended, and their digest (hex)

The last five are those of `examples`; a partition of `items`, whose records do not name the one before them, has

    last                offset and digest (hex) of the last record before `offset`, of whatever kind, null before any

in their place: that record is read once more, which tells whether the topic was made again, or has lost its end.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from model.data.catalogue import ItemRecord, ItemsWatermark, Tombstone
from model.data.item_times import decode_timed
from model.errors import ModelError
from model.trainer.merge import BEGINNING_MS, DEFAULT_NAMING, Merge, Naming, PartitionQueue, Placed, Topic
from stream.example import DEFAULT_BOUNDS, MAGIC, DamagedError, Example, Record, TimeBounds, decode, fingerprint

LearnItems = Callable[[Sequence[ItemRecord | Tombstone]], None]
_DIGEST: Final = 2**128
_log: Final = logging.getLogger("hstu.train")


class Inbox:
    """The queues of both topics, and the micro-batch that is being filled from them.

    Args:
        partitions: Number of partitions of topic `examples`.
        items_partitions: Number of partitions of topic `items`, 0 where it does not exist.
        bounds: How far records of `items` may move event time.
        naming: For refusals.
    """

    def __init__(
        self,
        partitions: int,
        items_partitions: int,
        bounds: TimeBounds = DEFAULT_BOUNDS,
        naming: Naming = DEFAULT_NAMING,
    ) -> None:
        self.merge = Merge(partitions, items_partitions, naming)
        self._naming, self._prefix = naming, naming.topic_prefix
        self.batch: list[Placed] = []  # in order, not yet trained on
        self._refused: Counter[Topic] = Counter()  # records that nobody can read
        self.since_ms = BEGINNING_MS  # examples that became final before say only how far their partition has come
        self.learned_before_ms = BEGINNING_MS  # before which the run has heard, by what it began with, who is forgotten
        self.passed_over = 0  # of these
        self._bounds = bounds
        self._next: dict[Topic, list[int]] = {"examples": [0] * partitions, "items": [0] * items_partitions}
        self._last: list[tuple[int, str] | None] = [None] * items_partitions  # offset and digest of what was read last
        self._tokens = [0] * partitions
        self._sequences = ["0" * 32] * partitions

    def position(self, topic: Topic, partition: int) -> int:
        """Return the next offset wanted; 0 at first, wherever the log begins."""
        return self._next[topic][partition]

    def last_read(self, partition: int) -> int | None:
        """Return the offset of the last record read of a partition of `items`, None before any."""
        last = self._last[partition]
        return last[0] if last else None

    @property
    def way_on(self) -> str:
        """How to go on where Kafka no longer has what was read, with the names of this run."""
        return (
            f"go on with what was learned by {self._naming.command}, which reads all that Kafka has now and passes "
            f"over what {self._naming.trainer} was trained on (docs/recovery.md)."
        )

    def offer(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Take records of one partition in offset order; those below the position are dropped.

        Raises:
            ModelError: The partition does not exist, an example is missing or in the wrong partition, or `items` is
                another log than the one that was read.
            FormatError: An example is damaged, or a newer version wrote it.
        """
        positions = self._next[topic]
        if partition >= len(positions):
            raise ModelError(
                f"Partition {partition} of {self._prefix}{topic} gave a record, but the trainer was started for "
                f"{len(positions)}; stream.partitions must be what `hstu topics` created."
            )
        for record in records:
            if record.offset >= positions[partition]:
                take = self._take_example if topic == "examples" else self._take_item
                take(partition, record)
                positions[partition] = record.offset + 1
            elif topic == "items":
                self._refuse_other(partition, record)

    def _refuse_other(self, partition: int, record: Record) -> None:
        """Compare a record of `items` that comes once more with the last one read."""
        last = self._last[partition]
        if last and record.offset == last[0] and fingerprint(record).hex() != last[1]:
            raise ModelError(
                f"{self._at('items', partition, record)} holds another record than the one that trainer "
                f"{self._naming.trainer} has read there: the topic was made again, or Kafka has lost the end of its "
                "log and written it anew (a power cut). What came in meanwhile would be skipped in silence. Point to "
                f"the Kafka of before; or {self.way_on}"
            )

    def _at(self, topic: Topic, partition: int, record: Record) -> str:
        return f"Offset {record.offset} of {self._prefix}{topic}, partition {partition},"

    def _take_example(self, partition: int, record: Record) -> None:
        message = record.value or b""
        if not message.startswith(MAGIC):
            self._refuse("examples", f"{self._at('examples', partition, record)} holds no example; passed over.")
            return
        try:
            decoded = decode(message)
        except DamagedError as error:  # if it was an example of ours, its successor's serial shows that it is missing
            self._refuse("examples", f"{error} {self._at('examples', partition, record)} is passed over.")
            return
        if decoded.partition != partition:
            raise ModelError(
                f"{self._at('examples', partition, record)} holds a message of partition "
                f"{decoded.partition}: the topic was copied into another number of partitions; let workers write it."
            )
        if isinstance(decoded, Example) and decoded.final_ms < self.since_ms:
            if len(decoded.keys) or decoded.final_ms < self.learned_before_ms:
                self.passed_over += 1
                self.merge.beat("examples", partition, decoded.final_ms)
            else:
                self.merge.put_farewell(record.offset, decoded, message)
        elif isinstance(decoded, Example):
            self.merge.put_example(record.offset, decoded, message)
        else:
            self.merge.beat("examples", partition, decoded.watermark_ms)
            self._tokens[partition], self._sequences[partition] = decoded.tokens, decoded.sequences_digest.hex()

    def _take_item(self, partition: int, record: Record) -> None:
        before, self._last[partition] = self._last[partition], (record.offset, fingerprint(record).hex())
        try:
            decoded = decode_timed(record, self._bounds)
        except ModelError as error:
            self._refuse(
                "items",
                f"{error} Offset {record.offset} of {self._prefix}items, partition {partition}, is passed over.",
            )
            return
        if isinstance(decoded, ItemsWatermark):
            self.merge.beat("items", partition, decoded.watermark_ms)
        else:
            self.merge.put_item(partition, record.offset, decoded.ts_ms, (decoded, before), len(record.value or b""))

    def _refuse(self, topic: Topic, sentence: str) -> None:
        """Count a record, and log the first of its topic and every tenfold."""
        self._refused[topic] += 1
        count = self._refused[topic]
        if str(count).rstrip("0") == "1":
            more = f" It is the {count:,}th such record of {topic}." if count > 1 else ""
            _log.warning("%s%s", sentence, more)

    def gather(self, size: int, learn_items: LearnItems) -> bool:
        """Fill the micro-batch as far as the order is known, and return whether it is full, or the last one.

        One that says that a user is forgotten ends it: who is forgotten does not stay until others' examples come.
        Records of the catalogue go to `learn_items` as their turn comes, before the micro-batch that they fall into.
        """
        while not self._is_full(size) and (placed := self.merge.pop()) is not None:
            if placed.topic == "items":
                learn_items([placed.value[0]])
            else:
                self.batch.append(placed)
        return self._is_full(size) or (self.merge.ended and bool(self.batch))

    def _is_full(self, size: int) -> bool:
        return len(self.batch) == size or (bool(self.batch) and not len(self.batch[-1].value[0].keys))

    @property
    def refused(self) -> int:
        """Number of records that nobody can read."""
        return self._refused.total()

    @property
    def waiting(self) -> int:
        """Number of records that are read and not yet trained on."""
        return self.merge.pending + len(self.batch)

    @property
    def ended(self) -> bool:
        """Whether every log is over and all of it was taken out."""
        return self.merge.ended and not self.batch

    @property
    def learned_ms(self) -> int:
        """Event time below which everything is trained on."""
        first = [placed.place_ms for placed in (*self.batch[:1], self.merge.first) if placed]
        return max(0, min([self.merge.watermark_ms, *first]))

    @property
    def tokens(self) -> int:
        """Number of tokens that the workers have appended to sequences, by their last heartbeats."""
        return sum(self._tokens)

    @property
    def sequences_digest(self) -> str:
        """Digest of all sequences, by the last heartbeats: the sum of the partitions', modulo 2**128, in hex."""
        return f"{sum(int(digest, 16) for digest in self._sequences) % _DIGEST:032x}"

    def marks(self) -> dict[Topic, list[dict[str, Any]]]:
        """Return the marks of all partitions, for a checkpoint."""
        return {topic: [self._mark(topic, queue) for queue in queues] for topic, queues in self.merge.queues.items()}

    def _mark(self, topic: Topic, queue: PartitionQueue) -> dict[str, Any]:
        in_batch = (placed for placed in self.batch if topic == "examples" and placed.partition == queue.partition)
        first = next(in_batch, queue.waiting[0] if queue.waiting else None)
        mark: dict[str, Any] = {
            "offset": first.offset if first else self._next[topic][queue.partition],
            "clock_ms": first.before_ms if first else queue.clock_ms,
        }
        if topic == "examples":
            mark["serial"] = first.value[0].serial - 1 if first else queue.serial
            mark["final_ms"] = min(queue.final_ms, first.before_ms) if first else queue.final_ms
            mark["digest"] = (first.value[0].parent if first else queue.digest).hex()
            mark["tokens"] = self._tokens[queue.partition]
            mark["sequences"] = self._sequences[queue.partition]
        else:
            mark["last"] = first.value[1] if first else self._last[queue.partition]
            if mark["last"] is None:  # nothing by which the log would be known again: from its beginning
                mark["offset"] = 0
        return mark

    def restore(self, marks: dict[Topic, list[dict[str, Any]]]) -> None:
        """Continue from the marks of a checkpoint; a partition without a mark (of a new topic) begins at its start."""
        for topic, queues in self.merge.queues.items():
            for queue, mark in zip(queues, marks[topic], strict=False):
                p = queue.partition
                self._next[topic][p] = mark["offset"]
                queue = self.merge.restore(topic, p, mark["clock_ms"])
                if topic == "examples":
                    queue.serial, queue.digest = mark["serial"], bytes.fromhex(mark["digest"])
                    queue.final_ms = mark["final_ms"]
                    self._tokens[p], self._sequences[p] = mark["tokens"], mark["sequences"]
                elif mark["last"]:
                    offset, digest = mark["last"]
                    self._last[p] = offset, digest
