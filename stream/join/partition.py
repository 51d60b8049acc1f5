"""The core of one partition: decode → reorder buffer → joiner → commit.

A call of `handle` is one commit:

    1. decode each record, or make it a dead-letter; let events wait in the reorder buffer
    2. move the watermark; join everything older than it (joiner.py)
    3. put examples, dead-letters and the new watermark into the outbox
    4. write ONE WriteBatch: tokens, users, waiting events, texts, outbox, and the next offset of each source

Before 4 a crash leaves the state of the batch before, and Kafka still has the records; after it, the state knows that
it has seen them. The worker sends what is in `outbox`; what a crash sends twice carries its serial.

A call may stop at `most` tokens in examples, so that a long wait does not end in one huge commit. Its heartbeat then
goes out with the call that joins the last of it.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.example import Heartbeat, Record, encode_example, encode_heartbeat
from stream.join.joiner import Joiner
from stream.join.outbox import Outbox
from stream.join.reorder_buffer import NEVER_MS, BufferedEvent, ReorderBuffer, Watermark
from stream.schema.dead_letters import DeadLetter, RefusedError
from stream.schema.events import decode_event
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.caches import TextIndex, UserCache
from stream.store.layout import Counters, Meta
from stream.store.rocksdb import Store


class Partition:
    """Sequences and examples of the users of one partition.

    Args:
        store: The partition's store.
        number: The partition's number.
        settings: Shared by all workers.
        now_ms: The wall clock in ms, or None to accept any time (replay).

    Raises:
        StoreError: The store was made for another number of partitions.
    """

    def __init__(
        self, store: Store, number: int, settings: StreamSettings, now_ms: Callable[[], int] | None = None
    ) -> None:
        self.number = number
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._encoder = msgspec.msgpack.Encoder()
        data = store.get(layout.META_KEY)
        self.fresh = data is None
        meta = layout.unpack(layout.METAS, layout.META_KEY, data) if data else _new_meta(settings)
        _check_partitions(meta, number, settings)
        self.next_offsets = meta.offsets
        self.counters = meta.counters
        self.outbox = Outbox(store, meta.outgoing)
        self._watermark = Watermark(int(settings.lateness_s * 1000), meta.high_ms, meta.watermark_ms)
        self._buffer = ReorderBuffer(self._watermark, store.scan(layout.WAITING))
        self._users = UserCache(store.get, 2 * settings.example_tokens)
        self._texts = TextIndex(store.get)
        self._joiner = Joiner(number, settings, self._users, self._texts, meta)
        for key, _ in store.scan(layout.ACTIVE):
            self._joiner.resume(layout.number_of(key))
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
    def digest(self) -> int:
        """Digest of all tokens ever appended (joiner.py)."""
        return self._joiner.digest

    def high_ms(self, source: SourceTopic) -> int:
        """Return the largest time that a source has shown."""
        return self._watermark.high_ms[source]

    def start_at(self, source: SourceTopic, offset: int) -> None:
        """Begin a source at its log's earliest offset, which retention may have moved beyond 0."""
        self.next_offsets[source] = max(self.next_offsets[source], offset)

    def handle(
        self,
        source: SourceTopic,
        records: Sequence[Record],
        idle: Collection[SourceTopic] = (),
        most: int = sys.maxsize,
    ) -> None:
        """Take records of one source, in offset order, join what the watermark allows, and commit.

        Args:
            source: The topic they came from.
            records: The records; those handled before are dropped.
            idle: The sources that do not hold the others back.
            most: Stop joining once the examples have this many tokens; `advance` joins the rest (`behind`).

        Raises:
            StoreError: This batch, or one before, could not be read or written; the partition must be opened again.
        """
        self._begin()
        next_offset = self.next_offsets[source]
        latest_ms = self._latest_ms()
        for record in records:
            if record.offset < next_offset:
                continue
            next_offset = record.offset + 1
            self._take(source, record, latest_ms)
        self.next_offsets[source] = next_offset
        self._join_and_commit(idle, most)

    def advance(self, idle: Collection[SourceTopic] = (), most: int = sys.maxsize) -> None:
        """Do the same without records: time has passed, or an earlier call has stopped at `most`."""
        self._begin()
        self._join_and_commit(idle, most)

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

    def _latest_ms(self) -> int | None:
        """Return the latest time that an event may have, None for any."""
        if self._now_ms is None or not self._settings.future_s:
            return None
        return self._now_ms() + int(self._settings.future_s * 1000)

    def _take(self, source: SourceTopic, record: Record, latest_ms: int | None) -> None:
        value = record.value or b""
        try:
            event = decode_event(source, value, max_slate=self._settings.max_slate, now_ms=latest_ms)
            if isinstance(event, int):
                self._watermark.saw(source, event)
            else:
                self.counters.events[source] += 1
                self._buffer.add(BufferedEvent(event, source, record.offset, value))
        except RefusedError as refused:
            self._refuse(refused, source, record.offset, record.key, value)

    def _join_and_commit(self, idle: Collection[SourceTopic], most: int) -> None:
        until_ms = self._watermark.advance(idle)
        joined = self._joiner.run(self._buffer, until_ms, most)
        for event, refused in joined.refusals:
            self._refuse(refused, event.source, event.offset, event.event.user_text.encode(), event.value)
        for example in joined.examples:
            self.counters.examples += 1
            self.outbox.put(EXAMPLES, example.user.to_bytes(8), encode_example(example))
        if self.behind and joined.complete:
            self._promised_ms = until_ms
            beat = Heartbeat(self.number, until_ms, self.counters.tokens, self._joiner.digest.to_bytes(16))
            self.outbox.put(EXAMPLES, None, encode_heartbeat(beat))
        self._store.write(self._changes())
        self.outbox.committed()
        self._broken = False
        self._purge()

    def _purge(self) -> None:
        """Clear forgotten users off the disk; a crash before it leaves that to RocksDB's own compaction."""
        for user in self._joiner.erased:
            self._store.purge(layout.prefixes(user))
        self._joiner.erased.clear()

    def _refuse(self, refused: RefusedError, source: SourceTopic, offset: int, key: bytes | None, value: bytes) -> None:
        counts = self.counters.dead_letters
        counts[refused.reason.value] = counts.get(refused.reason.value, 0) + 1
        topic = self._settings.topic_prefix + source.topic
        letter = DeadLetter(refused.reason, refused.detail, topic, self.number, offset, key, value)
        self.outbox.put(DEAD_LETTERS, key, value, letter.headers())

    def _changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self._users.write_back()
        yield from self._texts.write_back()
        yield from self._buffer.write_back()
        yield from self.outbox.write_back()
        meta = Meta(
            partitions=self._settings.partitions,
            offsets=self.next_offsets,
            high_ms=self._watermark.high_ms,
            watermark_ms=self._watermark.at_ms,
            serial=self._joiner.serial,
            outgoing=self.outbox.last,
            digest=self._joiner.digest.to_bytes(16),
            counters=self.counters,
        )
        yield layout.META_KEY, self._encoder.encode(meta)


def _new_meta(settings: StreamSettings) -> Meta:
    sources = len(SourceTopic)
    return Meta(
        settings.partitions, [0] * sources, [NEVER_MS] * sources, NEVER_MS, 0, 0, bytes(16), Counters([0] * sources)
    )


def _check_partitions(meta: Meta, number: int, settings: StreamSettings) -> None:
    if meta.partitions != settings.partitions:
        raise StoreError(
            f"The store of partition {number} was made for {meta.partitions} partitions, but the settings say "
            f"{settings.partitions}; a user's home depends on it: set stream.partitions = {meta.partitions}, or "
            "start with a new data directory."
        )
