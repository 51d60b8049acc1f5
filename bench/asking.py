"""Questions to a server at a steady rate, and how soon it sees new clicks: for keep_up.py."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from live_events import USER_SHIFT, Zipf

PROBE_S, POLL_S, GIVE_UP_S = 1.0, 0.01, 30.0
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
Times = list[tuple[float, float]]  # when it was due, s since 1970, and what it took, s


class Connections:
    """Kept connections to a server; one more is opened where all are busy."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return the JSON of an answer; None where it is no answer."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self._idle.append((reader, writer))
        return json.loads(body) if head.startswith(b"HTTP/1.1 200") else None

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()


class Asking:
    """Asks /topk of users of the stream, and probes how soon a new user's click is seen.

    Args:
        port: The server's port.
        bootstrap: Where the clicks of new users go.
        users: How many users the stream has.
        items: How many items it has.
        each_s: Requests a second.
    """

    def __init__(self, port: int, bootstrap: str, users: int, items: int, each_s: float) -> None:
        self._port, self._items, self._each_s = port, items, each_s
        self._users = Zipf(users, USER_SHIFT, 1)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._prefix = f"{time.time_ns():x}"
        self.topk: Times = []
        self.fresh: Times = []
        self.failures = 0

    async def run(self, until: asyncio.Event, seen_step: Callable[[int], None]) -> None:
        """Ask until the event is set; `seen_step` gets the step of the snapshot of each answer."""
        connections, asked = Connections(self._port), set()
        probes = asyncio.create_task(self._probes(connections, until))
        due_s = time.time()
        while not until.is_set():
            asked.add(task := asyncio.create_task(self._ask(connections, due_s, seen_step)))
            task.add_done_callback(asked.discard)
            due_s += 1 / self._each_s
            await asyncio.sleep(max(0.0, due_s - time.time()))
        await asyncio.gather(probes, *asked)
        connections.close()

    async def _ask(self, connections: Connections, due_s: float, seen_step: Callable[[int], None]) -> None:
        answer = await connections.get(f"/topk?user=user-{self._users.draw(1)[0]}")
        self.topk.append((due_s, time.time() - due_s))
        if answer is None:
            self.failures += 1
        else:
            seen_step(answer["snapshot"]["step"])

    async def _probes(self, connections: Connections, until: asyncio.Event) -> None:
        for number in range(10**9):
            if until.is_set():
                break
            begun_s, user = time.time(), f"probe-{self._prefix}-{number}"
            await asyncio.to_thread(self._click, user, number % self._items, int(1000 * begun_s))
            while time.time() - begun_s < GIVE_UP_S:
                answer = await connections.get(f"/topk?user={user}")
                if answer is not None and answer["source"] == "model":
                    break
                await asyncio.sleep(POLL_S)
            self.fresh.append((begun_s, time.time() - begun_s))
            await asyncio.sleep(max(0.0, PROBE_S - (time.time() - begun_s)))

    def _click(self, user: str, row: int, ts_ms: int) -> None:
        event = {"user_id": user, "item_id": f"item-{row}", "action": "click", "ts": ts_ms}
        self._producer.send("actions", key=user.encode(), value=json.dumps(event).encode()).get(GIVE_UP_S)
