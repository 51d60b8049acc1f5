"""The barrier in the log: where the old one ends for all partitions, and the records with which the new one begins.

    old log    every store has handled all records of its partition and sent what came of them; all are at one time
    new log    begins, in each partition of a source, with a heartbeat of that time and the header hstu-rescaled

The stores of the new partitions have read that record: so a topic that was made again is noticed, as ever, and a store
that has not been divided from the old ones refuses to begin with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stream.config import StreamSettings
from stream.consumer.progress import refuse_lost
from stream.consumer.read_log import other_log
from stream.errors import BrokerError, StoreError
from stream.example import fingerprint
from stream.join.reorder_buffer import NEVER_MS
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import count_partitions, refuse_other_counts, topic_name, verify_topics
from stream.operations.records import Place, read_between, whole_bounds
from stream.rescale.division import each
from stream.schema.record_time import RESCALED_HEADER, Headers, replay_headers, rescaled
from stream.schema.topics import ALL, DEAD_LETTERS, EVENTS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.layout import LogState, Meta
from stream.store.refusals import refuse_other_count, refuse_other_partition
from stream.store.rocksdb import Store

_SEND_S: Final = 60.0


def meta_of(number: int, store: Store, partitions: int) -> Meta:
    """Return how far the store of one of these partitions has come.

    Raises:
        StoreError: It is another one's, was made for another number of them, has handled nothing, has not joined all
            that it could, or has results that Kafka lacks.
    """
    data = store.get(layout.META_KEY)
    if data is None:
        raise StoreError(
            f"The store of partition {number} has handled nothing yet: start a worker, and let it come to the end of "
            "the log."
        )
    meta = layout.unpack(layout.METAS, layout.META_KEY, data)
    refuse_other_partition(meta, number, f"of partition {number}")
    refuse_other_count(meta, number, partitions)
    if any(True for _ in store.scan(layout.OUTBOX, most=1)) or _has_more_to_join(store, meta.watermark_ms):
        raise StoreError(
            f"The store of partition {number} has results that Kafka has not got yet: start a worker, let it come to "
            "the end of the log, and stop it by SIGTERM."
        )
    return meta


def _has_more_to_join(store: Store, watermark_ms: int) -> bool:
    """Return whether a worker was stopped in the middle of what the watermark has passed."""
    due = any(layout.due_ms(key) < watermark_ms for key, _ in store.scan(layout.TIMER, most=1))
    return due or any(layout.waiting_ms(key) < watermark_ms for key, _ in each(store, layout.WAITING))


def refuse_different_times(metas: Sequence[Meta], idle_timeout_s: float) -> None:
    """Check that all partitions have come to one time: users of several meet in a new one.

    Raises:
        StoreError: They have not.
    """
    times_ms = [meta.watermark_ms for meta in metas]
    if min(times_ms) == max(times_ms):
        return
    slowest_ms = min(times_ms)
    behind = f"{(max(times_ms) - slowest_ms) / 1000:,.3f} s behind" if slowest_ms > NEVER_MS else "far behind"
    if any(state.replayed for meta in metas for state in meta.logs):
        way = "let the replay that was stopped come to its end"
    elif idle_timeout_s:
        way = f"with the producers stopped, let the workers run for {2 * idle_timeout_s:g} s: their heartbeats do that"
    else:
        way = "set stream.idle_timeout_s, and let the workers run for twice as long with the producers stopped"
    raise StoreError(
        f"All partitions have to be at one time, and partition {times_ms.index(slowest_ms)} is {behind} the furthest: "
        f"{way}."
    )


def refuse_unread(kafka: Kafka, settings: StreamSettings, metas: Sequence[Meta]) -> None:
    """Check that the stores have read Kafka's log to its end, and no other log.

    Raises:
        StoreError: There are records that a store has not handled.
        BrokerError: It is another log than the one that was read, or Kafka does not answer.
    """
    verify_topics(kafka, settings, EVENTS)
    places = {
        (topic_name(settings, source.topic), number): (meta, source)
        for number, meta in enumerate(metas)
        for source in SourceTopic
    }
    bounds = whole_bounds(kafka, places)
    wanted: dict[Place, tuple[int, int]] = {}
    for place, (meta, source) in places.items():
        next_offset, last = meta.offsets[source], meta.logs[source].offset
        first, end = bounds[place]
        refuse_lost(place, next_offset, first, end)
        wanted[place] = (next_offset if last is None or last < first else last, end)
    for record in read_between(kafka, wanted):
        meta, source = places[record.topic, record.partition]
        if record.offset >= meta.offsets[source]:
            raise StoreError(
                f"{record.topic}[{record.partition}] has records from offset {record.offset} on that its store in this "
                "data directory has not handled: stop the producers, let the workers come to the end of the log, and "
                "stop them."
            )
        if record.offset == meta.logs[source].offset and fingerprint(record) != meta.logs[source].digest:
            raise other_log(record.topic, record.partition, record.offset)


def refuse_other_prefix(kafka: Kafka, new: StreamSettings, metas: Mapping[int, Meta]) -> None:
    """Check that stores which were divided, by partition, have read the log of the new topics, and no other one.

    Raises:
        StoreError: They were divided for the topics of another prefix.
        BrokerError: Kafka does not answer.
    """
    read = {
        (topic_name(new, source.topic), number): (state.offset, state.digest)
        for number, meta in metas.items()
        for source, state in zip(SourceTopic, meta.logs, strict=True)
        if state.offset is not None
    }
    found = count_partitions(kafka, sorted({topic for topic, _ in read}))
    there = [(topic, number) for topic, number in read if number < found.get(topic, 0)]
    bounds = whole_bounds(kafka, there) if there else {}
    kept = {place: read[place] for place, (first, _) in bounds.items() if read[place][0] >= first}
    wanted = {place: (at, at + 1) for place, (at, _) in kept.items() if at < bounds[place][1]}
    same = [
        record
        for record in read_between(kafka, wanted)
        if fingerprint(record) == read[record.topic, record.partition][1]
    ]
    if len(there) < len(read) or len(same) < len(kept):  # of what retention has deleted nothing can be said
        raise StoreError(
            f"The stores here are divided into {new.partitions} partitions already, but for topics of another prefix "
            f"than {new.topic_prefix!r}, where there is not what they have read: repeat the command with the "
            "--topic-prefix of then. To divide them for other topics, put the old stores in their place first "
            "(docs/recovery.md, More partitions)."
        )


class NewLog:
    """The beginning of the new topics.

    Args:
        kafka: The cluster.
        old: Settings of the log that ends.
        new: Settings of the one that begins.
        metas: How far the old partitions have come.
    """

    def __init__(self, kafka: Kafka, old: StreamSettings, new: StreamSettings, metas: Sequence[Meta]) -> None:
        self._kafka, self._settings = kafka, new
        origin = f"{old.partitions} partitions under the prefix {old.topic_prefix!r}"
        self._beats: dict[str, tuple[bytes, Headers]] = {}  # by topic
        self._replayed = [any(meta.logs[source].replayed for meta in metas) for source in SourceTopic]
        for source in SourceTopic:
            clock_ms = max(0, min(meta.clock_ms[source] for meta in metas))
            headers: list[tuple[str, bytes | None]] = [(RESCALED_HEADER, origin.encode())]
            if self._replayed[source]:
                headers += replay_headers(clock_ms)
            self._beats[topic_name(new, source.topic)] = b'{"watermark":%d}' % clock_ms, headers

    def refuse_others(self) -> None:
        """Check that the new topics hold nothing but what a rescale of this log that was broken off has left there.

        Raises:
            BrokerError: They hold something else, have other partitions, or Kafka does not answer.
        """
        found = count_partitions(self._kafka, [topic_name(self._settings, topic) for topic in ALL])
        refuse_other_counts(found, self._settings)
        silent = [topic_name(self._settings, topic) for topic in (EXAMPLES, DEAD_LETTERS)]
        for (topic, _), (_, end) in self._bounds([*silent, *self._beats], found).items():
            if end > (1 if topic in self._beats else 0):
                raise not_empty(topic)
        self._written(found)

    def begin(self) -> list[list[LogState]]:
        """Write the first records that are not there yet; return them as the new stores remember them, by partition.

        Raises:
            BrokerError: The topics hold something else, or Kafka does not take a record.
        """
        partitions = dict.fromkeys(self._beats, self._settings.partitions)
        there = self._written(partitions)
        with clients.refusals(self._kafka):
            producer = clients.producer(self._kafka, acks="all", enable_idempotence=True)
            try:
                sent = [
                    producer.send(topic, self._beats[topic][0], partition=number, headers=list(self._beats[topic][1]))
                    for topic, count in partitions.items()
                    for number in range(count)
                    if (topic, number) not in there
                ]
                for one in sent:
                    one.get(timeout=_SEND_S)
            finally:
                producer.close()
        written = self._written(partitions)
        names = [topic_name(self._settings, source.topic) for source in SourceTopic]
        return [
            [
                LogState(0, fingerprint(written[name, number]), replayed)
                for name, replayed in zip(names, self._replayed, strict=True)
            ]
            for number in range(self._settings.partitions)
        ]

    def _bounds(self, topics: Sequence[str], partitions: Mapping[str, int]) -> dict[Place, tuple[int, int]]:
        places = [(topic, number) for topic in topics for number in range(partitions.get(topic, 0))]
        return whole_bounds(self._kafka, places) if places else {}

    def _written(self, partitions: Mapping[str, int]) -> dict[Place, Any]:
        """Return the first records that are there; each must be ours."""
        begun = {place: (0, 1) for place, (_, end) in self._bounds(list(self._beats), partitions).items() if end}
        found: dict[Place, Any] = {}
        for record in read_between(self._kafka, begun):
            value, headers = self._beats[record.topic]
            if (record.value, rescaled(record).encode()) != (value, headers[0][1]):
                raise not_empty(record.topic)
            found[record.topic, record.partition] = record
        if gone := begun.keys() - found.keys():  # deleted since, or of a transaction that was aborted
            raise not_empty(min(gone)[0])
        return found


def not_empty(topic: str) -> BrokerError:
    """Return the refusal of a topic that holds records of another origin."""
    return BrokerError(
        f"The topic {topic} is not empty, and what it holds is not of a rescale of this log as it is now: choose "
        "another --topic-prefix."
    )
