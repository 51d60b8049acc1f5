"""The core of one partition: decode → reorder buffer → joiner → commit.

A call of `handle` is one commit:

    1. decode each record, or make it a dead-letter; let events wait in the reorder buffer
    2. move the watermark; join everything older than it (joiner.py)
    3. put examples, dead-letters and the new watermark into the outbox
    4. write ONE WriteBatch: tokens, users, waiting events, texts, outbox, and the next offset of each source

Before 4 a crash leaves the state of the batch before, and Kafka still has the records; after it, the state knows that
it has seen them. The worker sends what is in `outbox`; what a crash sends twice carries its serial.

What is refused, and what waits until when, is a function of the topics' logs: not of batches, of the order in which
topics are read, of crashes, or of any clock (reorder_buffer.py). So a store built again makes the same decisions.

A call may stop at `most` tokens in examples, so that a long wait does not end in one huge commit. Its heartbeat then
goes out with the call that joins the last of it.
"""

import sys
from collections.abc import Iterator, Sequence

import msgspec

from stream.config import StreamSettings
from stream.consumer.read_log import ReadLog
from stream.errors import StoreError
from stream.example import NO_PARENT, Heartbeat, Record, encode_heartbeat
from stream.join.erasure import Erasure
from stream.join.joiner import Joiner
from stream.join.outbox import Outbox
from stream.join.reorder_buffer import NEVER_MS, BufferedEvent, ReorderBuffer, Watermark
from stream.join.timers import Timers
from stream.schema.dead_letters import DeadLetter, Reason, RefusedError
from stream.schema.events import decode_event
from stream.schema.record_time import is_idle, rescaled, unreadable
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.caches import TextIndex, UserCache
from stream.store.layout import Counters, LogState, Meta
from stream.store.refusals import refuse_other_count, refuse_other_partition
from stream.store.rocksdb import Store


class Partition:
    """Sequences and examples of the users of one partition.

    Args:
        store: The partition's store.
        number: The partition's number.
        settings: Shared by all workers.

    Raises:
        StoreError: The store is of another partition, or was made for another number of partitions.
    """

    def __init__(self, store: Store, number: int, settings: StreamSettings) -> None:
        self.number = number
        self._store = store
        self._settings = settings
        self._bounds = settings.time_bounds
        self._encoder = msgspec.msgpack.Encoder()
        data = store.get(layout.META_KEY)
        self.fresh = data is None
        meta = layout.unpack(layout.METAS, layout.META_KEY, data) if data else _new_meta(settings)
        refuse_other_partition(meta, number, f"of partition {number}")
        refuse_other_count(meta, number, settings.partitions)
        self._deciding = settings.deciding
        self.changed = {name: old for name, old in meta.settings.items() if self._deciding.get(name, old) != old}
        """Settings that decide, and are others than when the store was last written: their old values, by name."""
        self.next_offsets = meta.offsets
        self.counters = meta.counters
        self._erasure = Erasure(store)
        self.outbox = Outbox(store, meta.outgoing, self._erasure)
        self._erasure.resume(self.outbox.last, len(self.outbox))
        self._logs = [
            ReadLog(settings.topic_prefix + source.topic, number, meta.logs[source].offset, meta.logs[source].digest)
            for source in SourceTopic
        ]
        self._replayed = [state.replayed for state in meta.logs]
        self._watermark = Watermark(int(settings.lateness_s * 1000), meta.clock_ms, meta.watermark_ms)
        self._buffer = ReorderBuffer(store.scan(layout.WAITING))
        self._users = UserCache(store, 2 * settings.example_tokens)
        self._texts = TextIndex(store.get)
        self._timers = Timers(store)
        self._joiner = Joiner(number, settings, self._users, self._texts, self._timers, meta)
        for source, offset, value, refused in self._buffer.unreadable:
            self._refuse(refused, source, offset, None, value)
        self._promised_ms = NEVER_MS  # the last heartbeat's watermark: everything before it has been joined
        self._broken = False

    @property
    def watermark_ms(self) -> int:
        """Everything older has been joined, or will be before anything else (`behind`)."""
        return self._watermark.at_ms

    @property
    def behind(self) -> bool:
        """Whether `advance` has more to join, or its heartbeat to send."""
        return self._watermark.at_ms > self._promised_ms

    @property
    def waiting(self) -> int:
        """How many events wait for the watermark."""
        return len(self._buffer)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes their records have."""
        return self._buffer.bytes

    @property
    def digest(self) -> int:
        """Digest of all tokens ever appended (joiner.py)."""
        return self._joiner.digest

    def clock_ms(self, source: SourceTopic) -> int:
        """Return how far a source has moved event time."""
        return self._watermark.clock_ms[source]

    @property
    def replayed(self) -> bool:
        """Whether a replay drives event time: what moved the clock of any source last, workers apart, was replayed."""
        return any(self._replayed)

    def last_read(self, source: SourceTopic) -> int | None:
        """Return the offset of the last record read of a source, None before the first."""
        return self._logs[source].offset

    def start_at(self, source: SourceTopic, offset: int) -> None:
        """Begin a source at its log's earliest offset, which retention may have moved beyond 0."""
        self.next_offsets[source] = max(self.next_offsets[source], offset)

    def pass_over(self, source: SourceTopic, offset: int) -> None:
        """Note in the store that a source has no record between the last that was handled and an offset."""
        if not self._broken:
            self.next_offsets[source] = max(self.next_offsets[source], offset)
            self._store.write([(layout.META_KEY, self._meta())])

    def handle(
        self,
        source: SourceTopic,
        records: Sequence[Record],
        most: int = sys.maxsize,
    ) -> None:
        """Take records of one source, in offset order, join what the watermark allows, and commit.

        Args:
            source: The topic they came from.
            records: The records; those handled before are dropped, once the last of them is found unchanged.
            most: Stop joining once the examples have this many tokens; `advance` joins the rest (`behind`).

        Raises:
            BrokerError: Kafka's log is no longer the one that was read.
            StoreError: This batch, or one before, could not be read or written; the partition must be opened again.
        """
        self._begin()
        log, next_offset = self._logs[source], self.next_offsets[source]
        for record in records:
            if record.offset < next_offset:
                log.refuse_other(record)
                continue
            next_offset = record.offset + 1
            self._take(source, record)
        self.next_offsets[source] = next_offset
        log.note(records)
        self._join_and_commit(most)

    def advance(self, most: int = sys.maxsize) -> None:
        """Join more: an earlier call has stopped at `most`."""
        self._begin()
        self._join_and_commit(most)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _begin(self) -> None:
        if self._broken:
            raise StoreError(
                f"Partition {self.number} failed in the middle of a batch and must be opened again: start again; the "
                "batch is read once more."
            )
        self._broken = True

    def _take(self, source: SourceTopic, record: Record) -> None:
        if record.offset == 0 and (before := rescaled(record)):
            self._refuse_to_begin(before)
        value = record.value or b""
        replayed = self._bounds.replayed_ms(record) is not None
        latest_ms = None if replayed else self._bounds.latest_ms(record)
        try:
            if why := unreadable(record):
                raise RefusedError(Reason.UNREADABLE, why)
            event = decode_event(source, value, max_slate=self._settings.max_slate, now_ms=latest_ms)
            ts_ms = event if isinstance(event, int) else event.ts_ms
            if not isinstance(event, int):
                self.counters.events[source] += 1
                self._watermark.refuse_late(source, ts_ms)
                self._buffer.add(BufferedEvent(event, source, record.offset, value))
            reached_ms = ts_ms if replayed else self._bounds.reached_ms(record, ts_ms)
            if self._watermark.move(source, reached_ms) and not is_idle(record):
                self._replayed[source] = replayed
        except RefusedError as refused:
            self._refuse(refused, source, record.offset, record.key, value)

    def _refuse_to_begin(self, before: str) -> None:
        raise StoreError(
            f"The log of partition {self.number} goes on with that of {before} (hstu topics rescale), and this store "
            "lacks what came before, which no record has: bring the store here from the host where that ran, or "
            "restore a backup of it (hstu store restore)."
        )

    def _join_and_commit(self, most: int) -> None:
        until_ms = self._watermark.advance()
        joined = self._joiner.run(self._buffer, until_ms, most)
        for event, refused in joined.refusals:
            self._refuse(refused, event.source, event.offset, event.event.user_text.encode(), event.value)
        for example in joined.examples:
            self.counters.examples += 1
            self.outbox.put(EXAMPLES, example.user.to_bytes(8), example.message)
        if self.behind and joined.complete:
            self._promised_ms = until_ms
            beat = Heartbeat(self.number, until_ms, self.counters.tokens, self._joiner.digest.to_bytes(16))
            self.outbox.put(EXAMPLES, None, encode_heartbeat(beat))
        self._store.write(self._changes())
        self.outbox.committed()
        self._broken = False
        self._erasure.committed(self._joiner.forgotten, self.outbox.last, len(self.outbox))
        self._joiner.forgotten.clear()

    def _refuse(self, refused: RefusedError, source: SourceTopic, offset: int, key: bytes | None, value: bytes) -> None:
        counts = self.counters.dead_letters
        counts[refused.reason.value] = counts.get(refused.reason.value, 0) + 1
        topic = self._settings.topic_prefix + source.topic
        letter = DeadLetter(refused.reason, refused.detail, topic, self.number, offset, key, value)
        self.outbox.put(DEAD_LETTERS, key, value, letter.headers())

    def _changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self._users.write_back()
        yield from self._timers.write_back()
        yield from self._texts.write_back()
        yield from self._buffer.write_back()
        yield from self.outbox.write_back()
        yield from self._erasure.mark(self._joiner.forgotten)
        yield layout.META_KEY, self._meta()

    def _meta(self) -> bytes:
        meta = Meta(
            partitions=self._settings.partitions,
            offsets=self.next_offsets,
            clock_ms=self._watermark.clock_ms,
            watermark_ms=self._watermark.at_ms,
            logs=[
                LogState(log.offset, log.digest, replayed)
                for log, replayed in zip(self._logs, self._replayed, strict=True)
            ],
            serial=self._joiner.serial,
            parent=self._joiner.parent,
            outgoing=self.outbox.last,
            digest=self._joiner.digest.to_bytes(16),
            counters=self.counters,
            settings=self._deciding,
            partition=self.number,
        )
        return self._encoder.encode(meta)


def _new_meta(settings: StreamSettings) -> Meta:
    sources = len(SourceTopic)
    return Meta(
        partitions=settings.partitions,
        offsets=[0] * sources,
        clock_ms=[NEVER_MS] * sources,
        watermark_ms=NEVER_MS,
        logs=[LogState() for _ in SourceTopic],
        serial=0,
        parent=NO_PARENT,
        outgoing=0,
        digest=bytes(16),
        counters=Counters([0] * sources),
        settings=settings.deciding,
    )
