"""Slates and clicks at wall-clock time and at a steady rate, and the users whom workers know before: for keep_up.py.

    python bench/live_events.py HOST:PORT --rate 1000     slates and clicks until it is stopped
    python bench/live_events.py HOST:PORT --known         an attribute of each user, as fast as it goes

Items are drawn by Zipf's law, users by a flatter one. A slate has distinct items; some slates are answered by one click
on one of them, which names the request, 1 to 10 s later.
"""

import argparse
import heapq
import itertools
import random
import time
from collections.abc import Iterator

import numpy as np
from kafka import KafkaProducer

from stream.schema.topics import SourceTopic

ITEM_SHIFT, USER_SHIFT = 20.0, 1000.0
TICK_S = 0.02
CLICK_S = (1.0, 10.0)
DAY_MS = 86_400_000
Record = tuple[str, str, str]  # topic, key, JSON


class Zipf:
    """Draws ranks with chances 1 / (rank + shift)."""

    def __init__(self, count: int, shift: float, seed: int) -> None:
        chances = 1 / (np.arange(count) + shift)
        self._up_to = np.cumsum(chances / chances.sum())
        self._count, self._rng = count, np.random.default_rng(seed)

    def draw(self, size: int) -> list[int]:
        """Return so many ranks."""
        found = np.searchsorted(self._up_to, self._rng.random(size), side="right")
        return np.minimum(found, self._count - 1).tolist()


class Stream:
    """What users see and do: slates, and the clicks that fall due."""

    def __init__(self, users: int, items: int, slate: int, clicks: float, seed: int) -> None:
        self._users, self._items = Zipf(users, USER_SHIFT, seed), Zipf(items, ITEM_SHIFT, seed + 1)
        self._slate, self._clicks = slate, clicks
        self._chance = random.Random(seed)
        self._prefix, self._numbers = f"{time.time_ns():x}", itertools.count()
        self._due: list[tuple[float, str, str, str]] = []  # s, user, item, request

    def slates(self, count: int, now_s: float) -> Iterator[Record]:
        """Yield slates of this moment, and keep the clicks on them."""
        items = self._items.draw(count * self._slate)
        for n, who in enumerate(self._users.draw(count)):
            user, request = f"user-{who}", f"{self._prefix}-{next(self._numbers)}"
            shown = [f"item-{row}" for row in dict.fromkeys(items[n * self._slate : (n + 1) * self._slate])]
            listed = '","'.join(shown)
            yield (
                "impressions",
                user,
                f'{{"user_id":"{user}","request_id":"{request}","ts":{int(1000 * now_s)},"items":["{listed}"]}}',
            )
            if self._chance.random() < self._clicks:
                due_s = now_s + self._chance.uniform(*CLICK_S)
                heapq.heappush(self._due, (due_s, user, self._chance.choice(shown), request))

    def clicks(self, now_s: float) -> Iterator[Record]:
        """Yield the clicks that are due."""
        while self._due and self._due[0][0] <= now_s:
            _, user, item, request = heapq.heappop(self._due)
            yield (
                "actions",
                user,
                f'{{"user_id":"{user}","item_id":"{item}","action":"click","ts":{int(1000 * now_s)},'
                f'"request_id":"{request}"}}',
            )


def producer(bootstrap: str) -> KafkaProducer:
    """Return a producer that sends in batches of a tick."""
    return KafkaProducer(bootstrap_servers=bootstrap, linger_ms=int(1000 * TICK_S), batch_size=256 << 10)


def send_known(bootstrap: str, users: int) -> None:
    """Send an attribute of each user, of an hour ago, and heartbeats of a minute later, which let them go."""
    sender, then_ms = producer(bootstrap), int(1000 * time.time()) - DAY_MS // 24
    for n in range(users):
        user = f"user-{n}"
        value = f'{{"user_id":"{user}","name":"country","value":"c{n % 50}","ts":{then_ms + n * 1000 // users}}}'
        sender.send("attributes", key=user.encode(), value=value.encode())
    beat = b'{"watermark":%d}' % (then_ms + 60_000)
    for source in SourceTopic:
        for partition in sender.partitions_for(source.topic):
            sender.send(source.topic, value=beat, partition=partition)
    sender.flush()


def send(bootstrap: str, rate: float, stream: Stream, clicks: float) -> None:
    """Send events at a rate until this process is stopped; what a late tick has missed comes with the next."""
    sender, begun_s, sent = producer(bootstrap), time.time(), 0
    while True:
        now_s = time.time()
        due = int((now_s - begun_s) * rate / (1 + clicks))
        for topic, key, value in itertools.chain(stream.slates(due - sent, now_s), stream.clicks(now_s)):
            sender.send(topic, key=key.encode(), value=value.encode())
        sent = due
        time.sleep(max(0.0, TICK_S - (time.time() - now_s)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--slate", type=int, default=5)
    parser.add_argument("--clicks", type=float, default=0.25, help="share of the slates that are answered by a click")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.known:
        send_known(given.bootstrap, given.users)
    else:
        stream = Stream(given.users, given.items, given.slate, given.clicks, given.seed)
        send(given.bootstrap, given.rate, stream, given.clicks)


if __name__ == "__main__":
    main()
