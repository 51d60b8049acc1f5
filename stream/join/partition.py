"""The core of one partition: records come in, one WriteBatch changes the store, records for Kafka wait in the outbox.

A call of `handle` is one commit:

    1. decode each record, or make it a dead-letter; let events wait
    2. move the watermark; join everything older than it (joiner.py)
    3. examples, dead-letters and the new watermark become records of the outbox
    4. ONE WriteBatch: tokens, users, waiting events, texts, outbox, and the next offset of each source

Before 4 a crash leaves the state of the batch before, and Kafka still has the records; after it, the state knows that
it has seen them. The outbox is sent by the shell, which then calls `sent`; what a crash sends twice carries its serial.

A call may stop at `most` tokens in examples, so that a long wait does not end in one huge commit. Its heartbeat then
goes out with the call that joins the last of it.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.example import Heartbeat, Record, encode_example, encode_heartbeat
from stream.join.joiner import Joiner
from stream.join.reorder_buffer import BufferedEvent, ReorderBuffer
from stream.schema.dead_letters import DeadLetter, Reason, RefusedError
from stream.schema.events import Event, decode_event, decode_waiting
from stream.schema.ids import partition_of
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.schema.watermark import NEVER_MS, Watermark
from stream.store import layout
from stream.store.layout import Counters, Meta, Outgoing
from stream.store.rocksdb import Store
from stream.store.user_cache import UserCache

_TEXTS_CACHED: Final = 500_000


class Partition:
    """Sequences and examples of the users that live in one partition.

    Args:
        store: this partition's own.
        number: of the partition.
        settings: shared by all workers.
        now_ms: the wall clock in ms, or None to accept any time (replay).

    Raises:
        StoreError: the store was made for another number of partitions.
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
        meta = msgspec.msgpack.decode(data, type=Meta) if data else _new_meta(settings)
        if meta.partitions != settings.partitions:
            raise StoreError(
                f"The store of partition {number} was made for {meta.partitions} partitions, but the settings say "
                f"{settings.partitions}; a user's home depends on it: set stream.partitions = {meta.partitions}, or "
                "start with a new data directory."
            )
        self.next_offsets = meta.offsets
        self.counters = meta.counters
        self._outgoing = meta.outgoing
        self._watermark = Watermark(int(settings.lateness_s * 1000), meta.high_ms, meta.watermark_ms)
        self._users = UserCache(store.get, 2 * settings.example_tokens)
        self._joiner = Joiner(number, settings, self._users, self.counters, store.get, self._text_of)
        self._joiner.serial, self._joiner.digest = meta.serial, int.from_bytes(meta.digest)
        self._waiting = ReorderBuffer()
        self._texts: dict[int, str] = {}
        self._new_texts: dict[int, str] = {}
        self._strangers: set[int] = set()
        self._told_ms = NEVER_MS  # the last heartbeat's watermark: everything before it has been joined
        self._broken = False
        self._outbox: dict[int, Outgoing] = {}
        self._unwritten: list[Outgoing] = []
        self._load()

    @property
    def watermark_ms(self) -> int:
        """Everything older has been joined, or will be before anything else (`behind`)."""
        return self._watermark.at_ms

    @property
    def behind(self) -> bool:
        """Whether `advance` has more to join, or its heartbeat to send."""
        return self._watermark.at_ms > self._told_ms

    @property
    def waiting(self) -> int:
        """Events that wait for the watermark."""
        return len(self._waiting)

    @property
    def digest(self) -> int:
        """Digest of all tokens ever appended (joiner.py)."""
        return self._joiner.digest

    def high_ms(self, source: SourceTopic) -> int:
        """Give the largest time that a source has shown."""
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
            source: the topic they came from.
            records: those known already are dropped.
            idle: sources that do not hold the others back.
            most: stop joining once the examples have so many tokens; `advance` goes on while there is more (`behind`).

        Raises:
            StoreError: the batch could not be read or written, or one before; the partition must be opened anew.
        """
        self._begin()
        next_offset = self.next_offsets[source]
        now_ms = self._latest_ms()
        for record in records:
            if record.offset < next_offset:
                continue
            next_offset = record.offset + 1
            self._take(source, record, now_ms)
        self.next_offsets[source] = next_offset
        self._join(idle, most)

    def advance(self, idle: Collection[SourceTopic] = (), most: int = sys.maxsize) -> None:
        """Do the same without records: time has passed, or a call before has stopped at `most`."""
        self._begin()
        self._join(idle, most)

    def outbox(self) -> list[Outgoing]:
        """Give what Kafka has not yet acknowledged, in order."""
        return list(self._outbox.values())

    def sent(self, upto: int) -> None:
        """Forget the records up to this number: Kafka has them."""
        done = [number for number in self._outbox if number <= upto]
        for number in done:
            del self._outbox[number]
        self._store.write((layout.outbox_key(number), None) for number in done)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _begin(self) -> None:
        if self._broken:
            raise StoreError(
                f"Partition {self.number} failed in the middle of a batch and must be opened anew: start again; the "
                "batch is read once more."
            )
        self._broken = True

    def _latest_ms(self) -> int | None:
        """Give the largest time an event may have."""
        if self._now_ms is None or not self._settings.future_s:
            return None
        return self._now_ms() + int(self._settings.future_s * 1000)

    def _load(self) -> None:
        for key, value in self._store.scan(layout.OUTBOX):
            self._outbox[layout.number_of(key)] = msgspec.msgpack.decode(value, type=Outgoing)
        for key, _ in self._store.scan(layout.ACTIVE):
            self._joiner.resume(layout.number_of(key))
        for key, value in self._store.scan(layout.WAITING):
            source, offset = layout.parse_waiting(key)
            event = decode_waiting(SourceTopic(source), value)
            self._waiting.add(BufferedEvent(event, SourceTopic(source), offset, value, on_disk=True))

    def _take(self, source: SourceTopic, record: Record, now_ms: int | None) -> None:
        try:
            event = decode_event(source, record.value, max_slate=self._settings.max_slate, now_ms=now_ms)
            if isinstance(event, int):
                self._watermark.saw(source, event)
                return
            self.counters.events[source] += 1
            self._watermark.saw(source, event.ts_ms)
            if event.ts_ms < self._watermark.at_ms:
                behind = self._watermark.at_ms - event.ts_ms
                raise RefusedError(Reason.LATE, f"ts {event.ts_ms} lies {behind} ms behind the watermark")
        except RefusedError as refused:
            self._refuse(refused, source, record.offset, record.key, record.value or b"")
        else:
            self._waiting.add(BufferedEvent(event, source, record.offset, record.value or b""))

    def _join(self, idle: Collection[SourceTopic], most: int) -> None:
        until_ms = self._watermark.advance(idle)
        for example in self._joiner.run(until_ms, self._waiting.instants, self._events_at, most):
            self.counters.examples += 1
            self._send(EXAMPLES, example.user.to_bytes(8), encode_example(example))
        if self.behind and self._joiner.next_ms(self._waiting.instants) >= until_ms:
            self._told_ms = until_ms
            digest = self._joiner.digest.to_bytes(16)
            beat = Heartbeat(self.number, until_ms, self.counters.tokens, digest)
            self._send(EXAMPLES, None, encode_heartbeat(beat))
        self._commit()

    def _events_at(self, ts_ms: int) -> list[Event]:
        """Give the waiting events of one instant in order: each once, and none whose id collides with another's."""
        events: list[Event] = []
        for waiter in self._waiting.take(ts_ms):
            event = waiter.event
            if events and events[-1].order == event.order:
                self.counters.duplicates += 1
                continue
            try:
                self._learn_texts(event)
            except RefusedError as refused:
                self._refuse(refused, waiter.source, waiter.offset, event.texts[0][1].encode(), waiter.value)
            else:
                events.append(event)
        return events

    def _learn_texts(self, event: Event) -> None:
        user, text = event.texts[0]
        if (member := self._users.find(user)) is not None:
            _same_text(user, member.state.text, text)
        elif user not in self._strangers and partition_of(text.encode(), self._settings.partitions) != self.number:
            self._strangers.add(user)
            self.counters.misrouted += 1
        news = []
        for key, text in event.texts[1:]:
            known = self._texts.get(key) or self._known_text(key)
            if known is None:
                news.append((key, text))
            elif known != text:
                _same_text(key, known, text)
        for key, text in news:
            self._texts[key] = self._new_texts[key] = text

    def _known_text(self, key: int) -> str | None:
        text = self._texts.get(key)
        if text is None and (data := self._store.get(layout.text_key(key))) is not None:
            text = self._texts[key] = data.decode()
        return text

    def _text_of(self, key: int) -> str:
        return self._known_text(key) or ""

    def _refuse(self, refused: RefusedError, source: SourceTopic, offset: int, key: bytes | None, value: bytes) -> None:
        counts = self.counters.dead_letters
        counts[refused.reason.value] = counts.get(refused.reason.value, 0) + 1
        topic = self._settings.topic_prefix + source.topic
        letter = DeadLetter(refused.reason, refused.detail, topic, self.number, offset, key, value)
        self._send(DEAD_LETTERS, key, value, letter.headers())

    def _send(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        self._outgoing += 1
        self._unwritten.append(Outgoing(self._outgoing, topic, key, value, list(headers)))

    def _commit(self) -> None:
        self._store.write(self._changes())
        self._broken = False
        self._new_texts.clear()
        self._strangers.clear()
        for outgoing in self._unwritten:
            self._outbox[outgoing.number] = outgoing
        self._unwritten = []
        if len(self._texts) > _TEXTS_CACHED:
            self._texts.clear()

    def _changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self._users.write_back()
        yield from self._waiting.write_back()
        for key, text in self._new_texts.items():
            yield layout.text_key(key), text.encode()
        for outgoing in self._unwritten:
            yield layout.outbox_key(outgoing.number), self._encoder.encode(outgoing)
        meta = Meta(
            partitions=self._settings.partitions,
            offsets=self.next_offsets,
            high_ms=self._watermark.high_ms,
            watermark_ms=self._watermark.at_ms,
            serial=self._joiner.serial,
            outgoing=self._outgoing,
            digest=self._joiner.digest.to_bytes(16),
            counters=self.counters,
        )
        yield layout.META_KEY, self._encoder.encode(meta)


def _new_meta(settings: StreamSettings) -> Meta:
    sources = len(SourceTopic)
    return Meta(
        settings.partitions, [0] * sources, [NEVER_MS] * sources, NEVER_MS, 0, 0, bytes(16), Counters([0] * sources)
    )


def _same_text(key: int, known: str, text: str) -> None:
    if known != text:
        raise RefusedError(
            Reason.COLLISION, f"the ids {known!r} and {text!r} have one key, {key:016x}; the first is kept"
        )
