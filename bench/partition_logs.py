"""Logs of one partition, made in memory: what hot_user.py, histories.py and restart.py share.

They measure this checkout and, with --against PATH, another one, each in a process of its own.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.schema.record_time import Headers, replay_headers
from stream.schema.topics import SourceTopic

REPLAYED = replay_headers(0)
START_MS = 1_700_000_000_000
Log = dict[SourceTopic, list["Record"]]


@dataclass(slots=True)
class Record:
    """A replayed record, as a consumer gets it."""

    offset: int
    value: bytes
    key: bytes | None = None
    timestamp: int = 0
    headers: Headers = REPLAYED


def slate(user: str, number: int, ts_ms: int, items: Sequence[str]) -> bytes:
    """Return an impression's JSON."""
    return json.dumps({"user_id": user, "request_id": f"r{number}", "ts": ts_ms, "items": items}).encode()


def click(user: str, ts_ms: int, item: str) -> bytes:
    """Return an action's JSON."""
    return json.dumps({"user_id": user, "item_id": item, "action": "click", "ts": ts_ms}).encode()


class Batches:
    """Numbers the records of each source, and ends each batch with heartbeats."""

    def __init__(self) -> None:
        self._offsets = dict.fromkeys(SourceTopic, 0)

    def make(self, impressions: list[bytes], actions: list[bytes], watermark_ms: int) -> Log:
        """Return a batch of each source."""
        beat = b'{"watermark":%d}' % watermark_ms
        values = {SourceTopic.IMPRESSIONS: impressions, SourceTopic.ACTIONS: actions, SourceTopic.ATTRIBUTES: []}
        return {source: [self._record(source, value) for value in (*own, beat)] for source, own in values.items()}

    def _record(self, source: SourceTopic, value: bytes) -> Record:
        self._offsets[source] += 1
        return Record(self._offsets[source] - 1, value)


def second(
    rng: random.Random, at_ms: int, users: Sequence[str], slates: int, items: int = 5
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the slates of one second, three in five with a click."""
    for n in range(slates):
        user, ts_ms = rng.choice(users), at_ms + n * 1000 // slates
        shown = [f"item-{rng.randrange(5000)}-{place}" for place in range(items)]
        clicked = click(user, ts_ms + 400, rng.choice(shown)) if rng.random() < 0.6 else None
        yield slate(user, ts_ms, ts_ms, shown), clicked


def in_checkout(checkout: Path, script: str, *flags: str) -> Any:
    """Run a benchmark's own part in a checkout, and return what it prints as JSON."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, script, *flags]
    done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
