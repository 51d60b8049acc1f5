"""Dead-letters as operators see them: counted, shown, and sent back to their topics once the cause is mended.

A letter's id is the place of the refused record, TOPIC/PARTITION/OFFSET; a worker that was killed may have written it
twice, so repeats are left out: those of one id and one content, for in a topic that was made again other records have
the offsets of before. What a replay has sent back is noted in topic `dead-letters` itself, by a record without a value
whose headers are the letter's id and the digest of its content: every host knows it, and it outlives them. The event
carries the id too, as the header `dead-letter`. A replay that was killed between the two, or an acknowledgement that
was lost, sends that event once more, which the joiner takes for the same event, or as late; it is never joined twice.
"""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from xxhash import xxh3_128

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import count_partitions, topic_name
from stream.operations.records import lookup, read_last, read_topic
from stream.schema.dead_letters import Reason
from stream.schema.record_time import UNREADABLE_HEADER
from stream.schema.topics import DEAD_LETTERS, EVENTS, ITEMS

_REPLAYED: Final = "replayed"  # the headers of a note
_CONTENT: Final = "content"
_ORIGIN: Final = "dead-letter"
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_NEWEST: Final = 100  # last records of a partition, whose largest time is taken for its log's
_Identity = tuple[str, str]  # a letter's id and the digest of its content
_REQUEST_BYTES: Final = 32 << 20  # Kafka's own limits decide, not the producer's


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused record, its place and its reason."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    ts_ms: int
    """When it was refused: Kafka's time of the letter."""
    key: bytes | None
    value: bytes
    key_bytes: str = ""
    """How long its key was, where the letter has only the beginning; else empty."""
    value_bytes: str = ""
    replayed: bool = False
    fault: str = ""
    """Why no worker can have written it; empty if one can."""

    @property
    def id(self) -> str:
        """TOPIC/PARTITION/OFFSET of the refused record."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def cut(self) -> bool:
        """Whether the letter has only the beginning of its key or value."""
        return bool(self.key_bytes or self.value_bytes)

    @property
    def content(self) -> str:
        """Digest of its key and value, and of how long they were if they are cut."""
        made = xxh3_128(b"-" if self.key is None else b"%d " % len(self.key))
        made.update((self.key or b"") + self.value)
        if self.cut:
            made.update(f"{self.key_bytes}/{self.value_bytes}".encode())
        return made.hexdigest()


@dataclass(frozen=True, slots=True)
class Overview:
    """All letters, counted, and the last of them."""

    counts: dict[tuple[str, str], int]
    """By (reason, topic)."""
    replayed: int
    last: list[Letter]
    """Newest first."""
    foreign: list[str]
    """Letters that no worker can have written, each as its id and why; they are counted nowhere else."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; an empty collection means all."""

    reasons: Collection[str] = ()
    topics: Collection[str] = ()
    ids: Collection[str] = ()

    def holds(self, letter: Letter) -> bool:
        """Return whether a letter is among them."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.topic in self.topics)
            and (not self.ids or letter.id in self.ids)
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or would do."""

    sent: dict[tuple[str, str], int]
    """By (reason, topic)."""
    before: int
    """Letters that an earlier replay had sent back."""
    lost: list[str]
    """Ids of letters whose value was cut, and whose record Kafka no longer has."""
    passed_over: list[str]
    """Letters that no worker can have written, and records that Kafka refuses, each as its id and why."""
    unknown: list[str]
    """Ids that were asked for, of which there is no wanted letter."""
    late: int = 0
    """How many of those sent are older than their partition's log allows by now, about: workers refuse them as late."""


class _Timed(msgspec.Struct):
    """What an event or a heartbeat says of time."""

    ts: int | None = None
    watermark: int | None = None


def survey_letters(kafka: Kafka, settings: StreamSettings, wanted: Wanted, last: int) -> Overview:
    """Count the wanted letters, and return the last of them.

    Raises:
        BrokerError: Kafka does not answer, or has no topic `dead-letters`.
    """
    done = _replayed(kafka, settings)
    counts: Counter[tuple[str, str]] = Counter()
    foreign: list[str] = []
    repeated = 0

    def counted() -> Iterator[Letter]:
        nonlocal repeated
        for letter in _letters(kafka, settings, wanted, done):
            if letter.fault:
                foreign.append(f"{letter.id}: {letter.fault}")
                continue
            counts[letter.reason, letter.topic] += 1
            repeated += letter.replayed
            yield letter

    order = attrgetter("ts_ms", "offset")
    newest = heapq.nlargest(max(last, 1), counted(), key=order)  # of none it would read none
    return Overview(dict(counts), repeated, newest[:last], foreign)


def last_letters(kafka: Kafka, settings: StreamSettings, count: int) -> list[Letter]:
    """Return the last letters, newest first, without a look at older records; repeats are left out.

    Raises:
        BrokerError: Kafka does not answer.
    """
    found = {}
    for record in read_last(kafka, [topic_name(settings, DEAD_LETTERS)], count):
        letter = _decoded(record)
        if letter and not letter.fault:
            found[letter.id, letter.content] = letter
    return sorted(found.values(), key=attrgetter("ts_ms", "offset"), reverse=True)[:count]


def find_letters(kafka: Kafka, settings: StreamSettings, letter_id: str) -> list[Letter]:
    """Return the letters of an id, the oldest first: more than one where its topic was made again.

    Raises:
        HstuError: There is none.
        BrokerError: Kafka does not answer, or has no topic `dead-letters`.
    """
    done = _replayed(kafka, settings)
    if found := list(_letters(kafka, settings, Wanted(ids={letter_id}), done)):
        return sorted(found, key=attrgetter("ts_ms"))
    raise HstuError(f"There is no dead-letter {letter_id}; hstu dead-letters list shows ids, TOPIC/PARTITION/OFFSET.")


def replay_letters(kafka: Kafka, settings: StreamSettings, wanted: Wanted, *, dry_run: bool) -> Replayed:
    """Send the wanted letters' records back to their partitions, byte for byte, each once.

    Their headers are sent as well where Kafka still has the records: a replayed log's say which time is theirs. What
    cannot be sent is passed over: anybody who may write to `dead-letters` could otherwise stop the rest.

    Args:
        kafka: The Kafka.
        settings: Name the topics.
        wanted: Which letters.
        dry_run: Send nothing, and return what would be sent.

    Raises:
        BrokerError: Kafka does not answer, does not let this user write, or lacks the topic.
    """
    done, is_late = _replayed(kafka, settings), _lateness(kafka, settings)
    topics = _check_permissions(kafka, settings, _letters(kafka, settings, wanted, done), dry_run=dry_run)
    before, late, counts, lost, passed_over = 0, 0, Counter[tuple[str, str]](), list[str](), list[str]()
    unknown = dict.fromkeys(wanted.ids)
    notes = topic_name(settings, DEAD_LETTERS)
    with clients.refusals(kafka), lookup(kafka) as find:
        partitions = count_partitions(kafka, topics)
        # A record that Kafka refuses would end an idempotent producer.
        producer = clients.producer(kafka, acks="all", enable_idempotence=False, max_request_size=_REQUEST_BYTES)
        try:
            for letter in _letters(kafka, settings, wanted, done):
                unknown.pop(letter.id, None)
                if letter.fault:
                    passed_over.append(f"{letter.id}: {letter.fault}")
                elif letter.replayed:
                    before += 1
                elif letter.partition >= partitions.get(letter.topic, 0):
                    passed_over.append(f"{letter.id}: Kafka has no such partition now")
                elif (original := _original(letter, find)) is None:
                    lost.append(letter.id)
                elif refused := "" if dry_run else _send_back(producer, notes, letter, original):
                    passed_over.append(f"{letter.id}: {refused}")
                else:
                    counts[letter.reason, letter.topic] += 1
                    late += is_late(letter, original)
        finally:
            producer.close()
    return Replayed(dict(counts), before, lost, passed_over, list(unknown), late)


def _check_permissions(kafka: Kafka, settings: StreamSettings, letters: Iterable[Letter], *, dry_run: bool) -> set[str]:
    """Check before anything is sent that this client may send these back, and note that it did; return their topics."""
    topics = {letter.topic for letter in letters if not letter.fault and not letter.replayed}
    writes = () if dry_run or not topics else (topic_name(settings, DEAD_LETTERS), *topics)
    check_permissions(kafka, reads=topics, writes=writes)
    return topics


class _Original(NamedTuple):
    """The refused record."""

    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def _lateness(kafka: Kafka, settings: StreamSettings) -> Callable[[Letter, _Original], bool]:
    """Return what says whether a letter's event is older than its partition's log allows, as of now."""
    events = {topic_name(settings, topic) for topic in EVENTS}

    @cache
    def newest_ms(topic: str) -> dict[int, int]:
        newest: dict[int, int] = {}
        for record in read_last(kafka, [topic], _NEWEST):
            at_ms = min(_time_of(record.value) or 0, record.timestamp)
            newest[record.partition] = max(newest.get(record.partition, 0), at_ms)
        return newest

    def is_late(letter: Letter, original: _Original) -> bool:
        at_ms = _time_of(original.value)
        if at_ms is None or letter.topic not in events:
            return False
        return at_ms < newest_ms(letter.topic).get(letter.partition, 0) - 1000 * settings.lateness_s

    return is_late


def _time_of(value: bytes | None) -> int | None:
    """Return the time in an event or a heartbeat, in ms; None where there is none."""
    try:
        timed = msgspec.json.decode(value or b"", type=_Timed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return timed.watermark if timed.ts is None else timed.ts


def _send_back(producer: Any, notes: str, letter: Letter, original: _Original) -> str:
    """Send 1 the event, 2, once Kafka has it, the note that it was sent; return why Kafka refuses it, if it does."""
    kept = [header for header in original.headers if header[0] not in (_ORIGIN, UNREADABLE_HEADER)]
    headers = [*kept, (_ORIGIN, letter.id.encode())]
    place = {"key": original.key, "partition": letter.partition}
    note = [(_REPLAYED, letter.id.encode()), (_CONTENT, letter.content.encode())]
    try:
        producer.send(letter.topic, original.value, headers=headers, **place).get()
    except clients.RECORD_REFUSED as error:
        return clients.reason(error)
    producer.send(notes, b"", key=letter.key, headers=note).get()
    return ""


def _original(letter: Letter, find: Callable[[tuple[str, int], int], Any | None]) -> _Original | None:
    """Return the refused record, with its headers if Kafka still has it; None if neither has all of it."""
    record = find((letter.topic, letter.partition), letter.offset)
    if record is not None and _is_of(letter, record):
        return _Original(record.key, record.value or b"", list(record.headers))
    return None if letter.cut else _Original(letter.key, letter.value, [])


def _is_of(letter: Letter, record: Any) -> bool:
    """Return whether a record is the one that was refused, and not another at its place, of a topic made again.

    A letter's key is not always its record's: of two users with one key it is the id of the one who was refused.
    """
    if letter.value and not letter.value_bytes and record.value == letter.value:
        return True
    return _is_whole(letter.key, letter.key_bytes, record.key) and _is_whole(
        letter.value, letter.value_bytes, record.value or b""
    )


def _is_whole(kept: bytes | None, length: str, found: bytes | None) -> bool:
    """Return whether what was found is what a letter keeps, or what it keeps the beginning of, as long as it was."""
    if not length:
        return found == kept
    return found is not None and str(len(found)) == length and found.startswith(kept or b"")


def _replayed(kafka: Kafka, settings: StreamSettings) -> set[_Identity]:
    """Return id and content of all letters that were sent back."""
    found = map(_headers, read_topic(kafka, topic_name(settings, DEAD_LETTERS)))
    return {(headers[_REPLAYED], headers.get(_CONTENT, "")) for headers in found if _REPLAYED in headers}


def _letters(kafka: Kafka, settings: StreamSettings, wanted: Wanted, done: Collection[_Identity]) -> Iterator[Letter]:
    """Yield each wanted letter once, those with a fault too."""
    letters = topic_name(settings, DEAD_LETTERS)
    count = count_partitions(kafka, [letters]).get(letters, 0)  # the others have as many, and need not be seen for this
    inputs = dict.fromkeys((topic_name(settings, topic) for topic in (*EVENTS, ITEMS)), count)
    seen: set[_Identity] = set()
    for record in read_topic(kafka, letters):
        letter = _decoded(record)
        if letter is None or not wanted.holds(letter):
            continue
        identity = letter.id, letter.content
        if letter.fault or identity not in seen:
            seen.add(identity)
            yield replace(letter, replayed=identity in done, fault=letter.fault or _fault(letter, inputs))


def _fault(letter: Letter, inputs: Mapping[str, int]) -> str:
    """Return why no worker can have written a letter: anybody may who can write to the topic."""
    if letter.topic not in inputs:
        return f"{letter.topic!r} is not a topic whose records are refused"
    if not 0 <= letter.partition < inputs[letter.topic]:
        return "there is no such partition"
    return "" if letter.reason in list(Reason) else f"there is no reason {letter.reason!r}"


def _decoded(record: Any) -> Letter | None:
    """Return the letter of a record, None for notes; what is no letter of ours has a fault, and its own place."""
    headers = _headers(record)
    if _REPLAYED in headers:
        return None
    if lacking := [name for name in ("topic", "partition", "offset", "reason") if name not in headers]:
        place = record.topic, record.partition, record.offset
        fault = f"it is no dead-letter, for it has no header {' or '.join(map(repr, lacking))}"
        return Letter(*place, "", "", record.timestamp, record.key, record.value or b"", fault=fault)
    numbers = [headers["partition"], headers["offset"]]
    wrong = [text for text in numbers if not _NUMBER.fullmatch(text)]
    partition, offset = [-1, -1] if wrong else map(int, numbers)
    return Letter(
        topic=headers["topic"],
        partition=partition,
        offset=offset,
        reason=headers["reason"],
        detail=headers.get("detail", ""),
        ts_ms=record.timestamp,
        key=record.key,
        value=record.value or b"",
        key_bytes=headers.get("key-cut-from-bytes", ""),
        value_bytes=headers.get("cut-from-bytes", ""),
        fault=f"its place has {wrong[0][:80]!r} where a number is wanted" if wrong else "",
    )


def _headers(record: Any) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in record.headers if value is not None}


def check_reasons(reasons: Iterable[str]) -> None:
    """Check that reasons exist.

    Raises:
        HstuError: One does not; the sentence names those that do.
    """
    known = [reason.value for reason in Reason]
    for reason in reasons:
        if reason not in known:
            raise HstuError(f"There is no reason {reason!r}; known are {', '.join(known)}.")
