"""Live load: events stamped around the wall clock, in a thread that outlasts Kafka's absences; and poison."""

import itertools
import json
import random
import threading
import time
from collections import deque
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream.config import StreamSettings
from stream.schema.ids import partition_of
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import EVENTS, ITEMS
from tests.raw_records import batch, produce, record

USERS, CATALOGUE, SLATE = 400, 500, 6
_TICK_S: Final = 0.05
_FORGOTTEN: Final = 0.002  # of the events come with a record that forgets their user
_DAY_MS: Final = 86_400_000
REPLAYED: Final = [("hstu-replay", b"%d" % END_OF_TIME_MS)]


class Load(threading.Thread):
    """Sends events at a rate until `finish`.

    Args:
        bootstrap: Kafka.
        settings: Name the topics.
        seed: Decides users, items and actions; times are the wall clock's.
        rate: Events a second.
    """

    def __init__(self, bootstrap: str, settings: StreamSettings, seed: int, rate: float) -> None:
        super().__init__(name="load", daemon=True)
        self.sent = 0
        self._kafka, self._settings, self._rate = bootstrap, settings, rate
        self._rng = random.Random(seed)
        self._numbers = itertools.count()
        self._shown: deque[tuple[int, str, str, list[str]]] = deque(maxlen=200)  # (ts, user, request, items)
        self._on, self._ended = threading.Event(), threading.Event()
        self._busy = threading.Lock()
        self._on.set()
        self._producer = self._connect()

    def run(self) -> None:
        """Send until the end."""
        due = 0.0
        while not self._ended.is_set():
            self._on.wait()
            with self._busy:
                due += self._rate * _TICK_S
                while due >= 1:
                    due -= 1
                    self._send_event()
            time.sleep(_TICK_S)

    def pause(self) -> None:
        """Send nothing more; return when Kafka has what was sent."""
        self._on.clear()
        with self._busy:
            self._producer.flush(60)
            self._producer.close(10)

    def resume(self) -> None:
        """Send again, through new connections."""
        with self._busy:
            self._producer = self._connect()
        self._on.set()

    def finish(self) -> None:
        """End every log, by the heartbeat of a replay, and the thread."""
        self._ended.set()
        self.join()
        beat = json.dumps({"watermark": END_OF_TIME_MS}).encode()
        for topic in (*EVENTS, ITEMS):
            key = b"\x00heartbeat" if topic == ITEMS else None
            for partition in range(self._settings.partitions):
                name = self._settings.topic_prefix + topic
                self._producer.send(name, beat, key=key, partition=partition, headers=REPLAYED)
        self._producer.flush(120)
        self._producer.close(10)

    def poison(self, seed: int) -> None:
        """Send one of each record that must stop nobody."""
        rng = random.Random(seed)
        now_ms = int(time.time() * 1000)
        with self._busy:
            for topic, key, value in _poison(now_ms, self._settings, rng):
                self._put(topic, key, value)
            for topic in (*EVENTS, ITEMS):
                self.sent += self._put_nameless(topic, _json(user_id="user1", item_id="item1", ts=now_ms))

    def fast_client(self, seed: int) -> None:
        """Send one action from a client whose clock is 290 s ahead, which the default `future_s` allows."""
        user = f"user{random.Random(seed).randrange(USERS)}"
        ts = int(time.time() * 1000) + 290_000
        with self._busy:
            self._put("actions", user, _json(user_id=user, item_id="item1", action="click", ts=ts))

    def _connect(self) -> Any:
        return KafkaProducer(
            bootstrap_servers=self._kafka,
            acks="all",
            linger_ms=5,
            max_block_ms=600_000,
            delivery_timeout_ms=600_000,
            request_timeout_ms=20_000,
            max_request_size=2 << 20,
        )

    def _put(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        home = partition_of(key.encode(), self._settings.partitions) if partition is None else partition
        try:
            self._producer.send(self._settings.topic_prefix + topic, value, key=key.encode(), partition=home)
        except KafkaError:
            self._producer = self._connect()
        self.sent += 1

    def _put_nameless(self, topic: str, value: bytes) -> int:
        """Send a record whose header has a name that is no UTF-8, as no producer of Python can; return how many."""
        nameless = batch(record(b"user1", value, [(b"\xff\xfe", b"x")]), 1)
        return int(produce(self._kafka, self._settings.topic_prefix + topic, 0, nameless) == 0)

    def _send_event(self) -> None:
        rng = self._rng
        now_ms = int(time.time() * 1000) - rng.randrange(2000)
        if rng.random() < 0.01:
            now_ms -= int(rng.random() * 2000 * self._settings.lateness_s)  # half of them later than allowed
        user, draw = f"user{rng.randrange(USERS)}", rng.random()
        if rng.random() < _FORGOTTEN:
            self._forget(user, now_ms)
        if draw < 0.2:
            self._show(user, now_ms)
        elif draw < 0.55 and self._shown:
            self._answer(now_ms)
        elif draw < 0.9:
            item = f"item{int(rng.paretovariate(0.8)) % CATALOGUE}"
            self._put("actions", user, _json(user_id=user, item_id=item, action="click", ts=now_ms))
        elif draw < 0.95:
            country = rng.choice(["NO", "DE", "FR"])
            self._put("attributes", user, _json(user_id=user, name="country", value=country, ts=now_ms))
        else:
            self._change_item(now_ms)

    def _show(self, user: str, now_ms: int) -> None:
        request, items = f"r{next(self._numbers)}", [f"item{n}" for n in self._rng.sample(range(CATALOGUE), SLATE)]
        self._shown.append((now_ms, user, request, items))
        self._put("impressions", user, _json(user_id=user, request_id=request, ts=now_ms, items=items))

    def _answer(self, now_ms: int) -> None:
        shown_ms, user, request, items = self._rng.choice(self._shown)
        action = {"user_id": user, "item_id": self._rng.choice(items), "action": self._rng.choice(["click", "like"])}
        self._put("actions", user, _json(**action, request_id=request, ts=max(now_ms, shown_ms + 1)))

    def _forget(self, user: str, now_ms: int) -> None:
        """Forget a user, who may come back at once, as `hstu forget` does: on every partition."""
        for partition in range(self._settings.partitions):
            self._put("attributes", user, _json(user_id=user, forget=True, ts=now_ms), partition)

    def _change_item(self, now_ms: int) -> None:
        item = f"item{self._rng.randrange(CATALOGUE)}"
        title = None if self._rng.random() < 0.2 else _json(item_id=item, title=f"Title {now_ms}", ts=now_ms)
        self._put(ITEMS, item, title)


def _poison(now_ms: int, settings: StreamSettings, rng: random.Random) -> list[tuple[str, str, bytes | None]]:
    """Return records that are refused, as (topic, key, value)."""
    user = f"user{rng.randrange(USERS)}"
    deep = b"[" * 5000 + b"]" * 5000
    good = {"user_id": user, "item_id": "item1", "action": "click"}
    slate = {"user_id": user, "request_id": "r", "ts": now_ms}
    late_ms = int(now_ms - 1000 * settings.lateness_s - 60_000)
    values: list[tuple[str, bytes | None]] = [
        ("actions", b'{"user_id": 1, "item_id": 2, "action": "a", "ts": %d, "z": %s}' % (now_ms, deep)),
        ("actions", b'{"user_id": "' + b"x" * 900_000 + b'"}'),
        ("actions", b'\xff\xfe{"user_id"'),
        ("actions", None),
        ("actions", b""),
        ("actions", _json(**good, ts=1)),
        ("actions", _json(**good, ts=late_ms)),
        ("actions", _json(**good, ts=now_ms + 3 * _DAY_MS)),
        ("actions", _json(**good, ts=now_ms * 1000)),
        ("actions", _json(**good | {"user_id": 10**30}, ts=now_ms)),
        ("actions", _json(**good | {"user_id": "u" * 300}, ts=now_ms)),
        ("actions", _json(watermark=END_OF_TIME_MS)),
        ("attributes", _json(user_id=user, name="n", value=[1], ts=now_ms)),
        ("attributes", _json(watermark=now_ms + 30 * _DAY_MS)),
        ("impressions", _json(**slate, items=[])),
        ("impressions", _json(**slate, items=["a", "a"])),
        ("impressions", _json(**slate, items=[str(n) for n in range(1000)])),
    ]
    items: list[tuple[str, str, bytes | None]] = [
        (ITEMS, "x", b'{"item_id": "x", "ts": 1, "z": %s}' % deep),
        (ITEMS, "item7", _json(item_id="item7", title="of 2150", ts=5_680_000_000_000)),
        (ITEMS, "item8", b"\xff"),
    ]
    return [(topic, user, value) for topic, value in values] + items


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()
