"""Small streams of examples and catalogue records as they are in Kafka, made without a joiner."""

import json
from dataclasses import dataclass, field, replace

import numpy as np

from stream.example import (
    END_OF_TIME_MS,
    NO_KEY,
    NO_PARENT,
    TOKEN_DTYPE,
    Example,
    Heartbeat,
    Kind,
    encode_example,
    encode_heartbeat,
    id_key,
    message_digest,
)
from stream.schema.record_time import Headers, replay_headers

START_MS, GAP_MS = 1_700_000_000_000, 60_000
SLATE, HISTORY = 3, 48  # items of a request; tokens of an example at most


@dataclass(frozen=True, slots=True)
class Record:
    """Has the attributes of a Kafka record that readers use."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Headers = ()


@dataclass
class User:
    """The state of a user between examples."""

    key: int
    tokens: list[tuple[int, int, int, int]] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    last: int = 0
    requests: int = 0


def make_examples(
    seed: int = 0, users: int = 8, items: int = 40, count: int = 60, partitions: int = 2, *, truth: float = 0.9
) -> list[list[Record]]:
    """Return each partition's records of topic examples: `count` examples in all, heartbeats, the end of time.

    The next item a user clicks is, with probability `truth`, the one after the last clicked; the ids come into use one
    after the other. One request in five is an organic action; now and then a slate is only skipped, or not acted on.
    """
    rng = np.random.default_rng(seed)
    people = [User(id_key(f"user {u}"), last=int(rng.integers(items))) for u in range(users)]
    logs: list[list[bytes]] = [[] for _ in range(partitions)]
    serials, parents = [0] * partitions, [NO_PARENT] * partitions
    for n in range(count):
        u, now_ms = int(rng.integers(users)), START_MS + n * GAP_MS
        partition = u % partitions
        serials[partition] += 1
        available = max(4, int(items * (0.4 + 0.6 * n / count)))
        example = _request(rng, people[u], partition, serials[partition], now_ms, available, truth)
        logs[partition].append(message := encode_example(replace(example, parent=parents[partition])))
        parents[partition] = message_digest(message)
        if rng.random() < 0.3:
            for p, log in enumerate(logs):
                log.append(encode_heartbeat(Heartbeat(p, now_ms, n, id_key(f"{p} {n}").to_bytes(16, "big"))))
    for p, log in enumerate(logs):
        log.append(encode_heartbeat(Heartbeat(p, END_OF_TIME_MS - 30_000, count, bytes([p] * 16))))
    return [[Record(o, None, value, 0) for o, value in enumerate(log)] for log in logs]


def _request(
    rng: np.random.Generator, user: User, partition: int, serial: int, now_ms: int, available: int, truth: float
) -> Example:
    """Let a user see a slate or act on an item, and return the example."""
    chosen = (user.last + 1) % available if rng.random() < truth else int(rng.integers(available))
    if not user.tokens:
        _append(user, f"country={'NO' if user.key % 2 else 'DE'}", "", now_ms - 1, Kind.ATTRIBUTE)
    before = len(user.tokens)
    if rng.random() < 0.2:
        _append(user, f"item {chosen}", "click", now_ms, Kind.ACTION)
        labels: list[list[int]] = [[id_key("click")]]
    else:
        others = rng.choice(available, size=SLATE - 1, replace=False)
        slate = sorted({chosen, *map(int, others)})
        for item in slate:
            _append(user, f"item {item}", "", now_ms, Kind.IMPRESSION)
        action = str(rng.choice(["click", "skip", ""], p=[0.8, 0.1, 0.1]))
        labels = [[id_key(action)] if action and item == chosen else [] for item in slate]
        if action:
            _append(user, f"item {chosen}", action, now_ms + 1000, Kind.ACTION)
    user.last = chosen
    user.requests += 1
    return _example(user, partition, serial, now_ms, before, labels)


def _append(user: User, text: str, action: str, ts_ms: int, kind: Kind) -> None:
    user.tokens.append((id_key(text), id_key(action) if action else NO_KEY, ts_ms, kind))
    user.texts |= {id_key(each): each for each in (text, action) if each}


def _example(user: User, partition: int, serial: int, now_ms: int, before: int, labels: list[list[int]]) -> Example:
    first = max(0, len(user.tokens) - HISTORY)
    tokens = np.array(user.tokens[first:], TOKEN_DTYPE)
    texts, user.texts = user.texts, {}
    count = len(labels)
    return Example(
        *(partition, serial, now_ms + 2000, user.key, first),
        *(tokens["key"], tokens["action"], tokens["ts_ms"], tokens["kind"]),
        positions=np.arange(before, before + count, dtype=np.int32) - first,
        queries=np.full(count, before - 1 - first if before else -1, np.int32),
        requests=np.zeros(count, np.uint32),
        request_ms=np.full(count, now_ms),
        label_offsets=np.cumsum([0, *map(len, labels)], dtype=np.uint32),
        labels=np.array([key for each in labels for key in each], np.uint64),
        text_keys=np.array(list(texts), np.uint64),
        texts=tuple(texts.values()),
    )


def make_items(entries: list[tuple[int, str, dict[str, object] | None]], partitions: int = 1) -> list[list[Record]]:
    """Return each partition's records of topic items, from (ts_ms, item id, fields or None for a tombstone)."""
    logs: list[list[Record]] = [[] for _ in range(partitions)]
    for ts_ms, item, fields in entries:
        log = logs[id_key(item) % partitions]
        value = None if fields is None else json.dumps({"item_id": item, "ts": ts_ms, **fields}).encode()
        log.append(Record(len(log), item.encode(), value, ts_ms, replay_headers(ts_ms)))
    for log in logs:
        beat = json.dumps({"watermark": END_OF_TIME_MS}).encode()
        log.append(Record(len(log), b"\x00heartbeat", beat, 0, replay_headers(END_OF_TIME_MS)))
    return logs
