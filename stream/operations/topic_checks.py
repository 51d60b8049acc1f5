"""What `hstu doctor` looks at in Kafka: topics, their configuration, keys, and how far the stores have read.

Each check returns findings; what Kafka refuses to tell is one as well.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import msgspec

from stream.config import StreamSettings
from stream.errors import BrokerError, StoreError
from stream.kafka.connection import Kafka
from stream.kafka.groups import committed_offsets
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import (
    configs_of,
    count_partitions,
    describe_configs,
    refuse_other_counts,
    topic_name,
    workers_group,
)
from stream.operations.findings import Finding, fail, ok, warn
from stream.operations.records import lookup, read_last
from stream.operations.store_logs import count_unread, logs_of, refuse_other_logs
from stream.schema.ids import id_text, partition_of
from stream.schema.topics import ALL, DEAD_LETTERS, EVENTS, EXAMPLES, ITEMS
from stream.store import layout
from stream.store.refusals import refuse_other_partition
from stream.store.rocksdb import open_secondary, partition_path
from stream.store.standby import is_open_elsewhere, left_at, stands_by

_SAMPLE: Final = 200  # last records of each partition
_DAY_MS: Final = 86_400_000
_RECORD_BYTES: Final = "1048588"  # Kafka's default: a dead-letter has up to 768 KiB and its headers
_WANTED: Final = {"cleanup.policy": "delete", "max.message.bytes": _RECORD_BYTES}  # where configs_of() has no other
_AT_LEAST: Final = {"max.message.bytes", "delete.retention.ms"}  # configurations that may be larger than ours
_WHY: Final = {
    ("cleanup.policy", "delete"): ": of the records of one key Kafka deletes all but the last",
    ("max.message.bytes", _RECORD_BYTES): ": Kafka refuses larger records",
}
_PRODUCERS_HEAR: Final = {("max.message.bytes", topic) for topic in (*EVENTS, ITEMS)}  # of it, and nothing is lost
_SHOWN: Final = 3
_log = logging.getLogger("hstu.doctor")


class _Owner(msgspec.Struct):
    """Whose record it is."""

    user_id: str | int | None = None
    item_id: str | int | None = None
    watermark: int | None = None
    forget: Any = None


def check_topics(kafka: Kafka, settings: StreamSettings) -> Iterator[Finding]:
    """Yield whether all topics are there, with equal numbers of partitions."""
    names = [topic_name(settings, topic) for topic in ALL]
    check_permissions(kafka, others=[("DESCRIBE", name) for name in names])
    counts = count_partitions(kafka, names)
    if missing := [name for name in names if name not in counts]:
        yield fail("topics", f"{_listed(missing)} do not exist", "run hstu topics create")
    try:
        refuse_other_counts(counts, settings)
    except BrokerError as error:
        yield fail("partitions", str(error).rstrip("."), "see the sentence")
        return
    if counts:
        yield ok("topics", f"{len(counts)} topics with {settings.partitions} partitions each")


def check_configs(kafka: Kafka, settings: StreamSettings) -> Iterator[Finding]:
    """Yield where a topic's configuration differs from what `hstu topics create` would have set."""
    names = [topic_name(settings, topic) for topic in ALL]
    check_permissions(kafka, others=[("DESCRIBE_CONFIGS", name) for name in names])
    found = describe_configs(kafka, names)
    wrong = [
        (warn if (key, topic) in _PRODUCERS_HEAR else fail)(
            "configuration",
            f"{name} has {key}={configs.get(key)} where {value} is wanted{_WHY.get((key, value), '')}",
            f"python -m kafka.admin -b {kafka} configs alter -r topic -n {name} -c {key}={value}"
            + (" (and the options of docs/kafka.md, Trying it)" if kafka.encrypted or kafka.authenticated else ""),
        )
        for topic in ALL
        if (configs := found.get(name := topic_name(settings, topic)))
        for key, value in {**_WANTED, **configs_of(topic)}.items()
        if not _suits(key, configs.get(key), value)
    ]
    yield from wrong or [ok("configuration", "as hstu topics create sets it")]
    yield from _retention(found, settings)


def _suits(key: str, found: str | None, wanted: str) -> bool:
    if found is not None and key in _AT_LEAST:
        return int(found) >= int(wanted)
    return found == wanted


def _retention(found: Mapping[str, Mapping[str, str | None]], settings: StreamSettings) -> Iterator[Finding]:
    """Yield where Kafka keeps events or what is made of them for too short a time."""
    window_ms = int(1000 * (settings.action_window_s + settings.lateness_s + settings.gather_s))
    kept = {topic: _kept(found.get(topic_name(settings, topic), {})) for topic in (*EVENTS, EXAMPLES, DEAD_LETTERS)}
    for topic, limits in kept.items():
        name, need_ms = topic_name(settings, topic), window_ms if topic in EVENTS else _DAY_MS
        mend = f"raise retention.ms and retention.bytes of {name} (-1: no limit)"
        if 0 <= limits.ms < need_ms:
            lost = "events are deleted before they are joined" if topic in EVENTS else "whoever rests longer loses them"
            yield fail("retention", f"{name} is kept {limits}, less than {_span(need_ms)}: {lost}", mend)
        elif topic in EVENTS and limits.any:
            yield warn("retention", f"{name} is kept {limits}: a store that is lost is rebuilt from no more", mend)
        elif topic == EXAMPLES and not limits.compacted:
            yield ok("retention", f"examples are kept {limits}")


class _Kept(NamedTuple):
    """For how many ms, and up to how many bytes a partition, a topic keeps its records; -1 means no limit."""

    ms: int
    bytes: int
    compacted: bool

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return max(self.ms, self.bytes) >= 0

    def __str__(self) -> str:
        limits = [f"for {_span(self.ms)}"] if self.ms >= 0 else []
        limits += [f"up to {self.bytes:,} bytes a partition"] if self.bytes >= 0 else []
        return " and ".join(limits) or "without limit"


def _kept(configs: Mapping[str, str | None]) -> _Kept:
    policy = configs.get("cleanup.policy") or ""
    if "delete" not in policy:
        return _Kept(-1, -1, "compact" in policy)
    return _Kept(int(configs.get("retention.ms") or -1), int(configs.get("retention.bytes") or -1), "compact" in policy)


def check_keys(kafka: Kafka, settings: StreamSettings) -> Iterator[Finding]:
    """Yield whether the last records of each input lie where murmur2 of their user's (item's) id puts them."""
    elsewhere: dict[str, Counter[str]] = {}
    names = {topic_name(settings, topic): topic for topic in (*EVENTS, ITEMS)}
    check_permissions(kafka, reads=names)
    sampled = 0
    for record in read_last(kafka, names, _SAMPLE):
        if (owner := _owner(record)) is None:
            continue
        sampled += 1
        counts = elsewhere.setdefault(record.topic, Counter())
        if record.key is not None and record.key != owner:
            counts["with another key than their id"] += 1
        if partition_of(owner, settings.partitions) != record.partition:
            counts["in a partition that murmur2 would not choose"] += 1
    wrong = [f"{count} {what} in {name}" for name, counts in elsewhere.items() for what, count in counts.items()]
    if wrong:
        yield warn(
            "keys",
            f"of the last {sampled} records {_listed(wrong)}",
            "key every record by its user's id (on items: the item's) as UTF-8 text and set the partitioner murmur2 in "
            "every producer (librdkafka: partitioner=murmur2_random); a user in two partitions has two sequences",
        )
    elif sampled:
        yield ok("keys", f"the last {sampled} records lie where murmur2 of their ids puts them")


def _owner(record: Any) -> bytes | None:
    """Return the id in a record's value as UTF-8; None where there is none, or where it belongs to no one partition."""
    try:
        owner = msgspec.json.decode(record.value or b"", type=_Owner)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = owner.item_id if owner.user_id is None else owner.user_id
    return None if found is None or owner.watermark is not None or owner.forget is not None else id_text(found).encode()


def check_progress(kafka: Kafka, settings: StreamSettings, data_dir: Path) -> Iterator[Finding]:
    """Yield how far this host's stores have read Kafka's logs, and whether they still are the logs that were read.

    Kafka is asked for its logs' ends after the stores were read: a worker that writes them reads on meanwhile.
    """
    paths = {number: partition_path(data_dir, number) for number in range(settings.partitions)}
    paths = {number: path for number, path in paths.items() if path.exists()}
    if not paths:
        return
    check_permissions(kafka, reads=[topic_name(settings, topic) for topic in EVENTS])  # without, Kafka would not answer
    metas: dict[int, layout.Meta | None] = {}
    for number, path in paths.items():
        try:
            metas[number] = _meta(number, path)
        except StoreError as error:
            yield fail("stores", str(error).rstrip("."), "see the sentence")
    bounds = logs_of(kafka, settings, metas)
    lag, good = 0, list[Path]()
    with lookup(kafka) as find:
        for number, meta in metas.items():
            try:
                behind = count_unread(bounds[number], meta)
                refuse_other_logs(bounds[number], meta, find)
                lag += behind
                good.append(paths[number])
            except BrokerError as error:
                yield fail("stores", str(error).rstrip("."), "see the sentence")
    if good:
        says = f"{len(good)} of {settings.partitions} are in {data_dir} and can be opened{_used(good)}"
        yield ok("stores", f"{says}; {lag:,} records are not read yet; their tables were not read through")


def _used(paths: list[Path]) -> str:
    """Return how many of these stores a worker has open, and how many nobody reads on."""
    counts = {
        "of them open in a worker": sum(map(is_open_elsewhere, paths)),
        "marked as left": sum(left_at(path) is not None for path in paths),
        "standing by": sum(map(stands_by, paths)),
    }
    return "".join(f", {count} {what}" for what, count in counts.items() if count)


def check_left(kafka: Kafka, settings: StreamSettings, data_dir: Path) -> Iterator[Finding]:
    """Yield which stores of this host were left: nobody uses them, and the workers' group has read more.

    The group's offsets are asked for before a store is read, and whether somebody uses it also afterwards: a worker of
    this host that reads on meanwhile is none of another host. A store that is damaged, of another partition or of
    another log is none of these.

    Raises:
        BrokerError: Kafka does not answer, or refuses.
    """
    paths = {number: partition_path(data_dir, number) for number in range(settings.partitions)}
    free = {n: path for n, path in paths.items() if path.is_dir() and not (stands_by(path) and settings.standby)}
    free = {n: path for n, path in free.items() if not is_open_elsewhere(path)}
    if not free:
        return
    reads = [topic_name(settings, topic) for topic in EVENTS]
    check_permissions(kafka, reads=reads, group=workers_group(settings), of_group="DESCRIBE")
    committed = committed_offsets(kafka, workers_group(settings))
    passed: dict[int, layout.Meta | None] = {}
    for number, path in free.items():
        with suppress(StoreError):  # which has its line
            meta = _meta(number, path)
            if layout.is_passed(meta, [committed.get((topic, number), 0) for topic in reads]):
                passed[number] = meta
    bounds, left = logs_of(kafka, settings, passed), list[str]()
    with lookup(kafka) as find:
        for number, meta in passed.items():
            with suppress(BrokerError):  # which has its line
                refuse_other_logs(bounds[number], meta, find)
                left += [] if is_open_elsewhere(paths[number]) else [paths[number].name]
    if left:
        yield warn(
            "left stores",
            f"{', '.join(left)} in {data_dir / 'store'}: no worker here has them open, and the workers' group has read "
            "more of these partitions: by another host's worker, or by this host's before a power cut took its last "
            "writes. Users forgotten since are still here",
            "if this host should have these partitions, start its worker: it reads on where the stores end. Delete a "
            "folder only where hstu doctor on another host finds that partition's store there, and nothing wrong with "
            "it: this one may be the last copy",
        )


def _meta(number: int, path: Path) -> layout.Meta | None:
    """Return what the store of a partition says of itself, None while it is new.

    Raises:
        StoreError: It is damaged, or of another partition.
    """
    _log.info("Opening %s", path)  # RocksDB may hang on a damaged one, and then so does the process
    with TemporaryDirectory(prefix="hstu-doctor-") as scratch:
        store = open_secondary(path, Path(scratch) / "log")
        try:
            data = store.get(layout.META_KEY)
        finally:
            store.close()
    meta = msgspec.msgpack.decode(data, type=layout.Meta) if data else None
    if meta:
        refuse_other_partition(meta, number, path)
    return meta


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _span(ms: int) -> str:
    for name, size in (("d", _DAY_MS), ("h", 3_600_000), ("min", 60_000)):
        if ms >= size:
            return f"{ms / size:.3g} {name}"
    return f"{ms / 1000:g} s"
