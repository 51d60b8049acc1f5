"""One HTTP connection, with limits that uvicorn lacks: a request has to arrive, and its answer to leave, in time.

    made ── request arrives ──► whole ── answered ──► idle ── next request arrives ──► …
         └─ at most timeout_s ─┘       └─ written: each wait for the client at most timeout_s

A connection that exceeds one is cut. One whose client sends a request before it has the answer to the one before gets
that answer, and is closed: clients that ask and never read would otherwise keep the server at work until the buffers of
both ends are full of answers, hundreds for each.

Where there are as many connections as are allowed, the one that has waited
longest for its request gives way to a new one, so that clients which send nothing, or a byte a second, keep nobody out.
Where all of them are being answered, further requests get 503. Probes are answered all the same: uvicorn's own limit
would refuse them too, and an orchestrator then restarts a server that is merely busy.
"""

import asyncio
from typing import Any, Final

import h11
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from model.serving.http.access import PROBES

_BUSY: Final = "The server answers as many requests as it may (serve.connections); ask again."


class _Tasks:
    """uvicorn's set of the requests that run, of which a connection knows its last."""

    def __init__(self, tasks: set[Any]) -> None:
        self._tasks = tasks
        self.last: Any = None

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Any) -> None:
        """Add a request of this connection."""
        self._tasks.add(task)
        self.last = task

    def discard(self, task: Any) -> None:
        """Remove a request that has ended, or whose client is cut off."""
        self._tasks.discard(task)


def _unless_busy(app: Any, tasks: _Tasks, most: int | None) -> ASGIApp:
    """Wrap the application: answer 503, but not to a probe, where more than `most` requests run."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if most is None or len(tasks) <= most or scope["path"] in PROBES:
            await app(scope, receive, send)
        else:
            await JSONResponse({"detail": _BUSY}, 503, {"Retry-After": "1"})(scope, receive, send)

    return limited


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with timeouts and a limit of connections."""

    timeout_s: float

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, and make room for this connection."""
        super().connection_made(transport)
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self.tasks: Any = _Tasks(self.tasks)
        self.app: Any = _unless_busy(self.app, self.tasks, self._most)
        transport.set_write_buffer_limits(0)  # pause_writing and resume_writing tell when there is something unsent
        self._since_s = self.loop.time()
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._watch()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._end_pipeline()
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, part of which may be here already."""
        self._since_s = self.loop.time()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Cut the connection unless the client takes what it was sent."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has taken everything."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()

    def _watch(self) -> None:
        """Start the time of a request with its first byte, and end it with its last."""
        state = self.conn.their_state
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        arriving = state is h11.SEND_BODY or (state is h11.IDLE and begun)
        if arriving and self._reading is None:
            self._reading = self.loop.call_later(self.timeout_s, self.transport.abort)
        elif not arriving and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _end_pipeline(self) -> None:
        """Answer no further request of a client that has not waited for an answer."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body and self.conn.trailing_data[0]:
            cycle.keep_alive = False
            self.headers.append((b"connection", b"close"))  # uvicorn then writes the same

    def _make_room(self) -> None:
        """Cut the connection that has waited longest for its request, if there are more than allowed."""
        if self._most is None or len(self.connections) <= self._most:  # this one among them
            return
        others: set[Any] = self.connections - {self}
        waiting = [one for one in others if one.waits]
        if waiting:
            longest = min(waiting, key=lambda one: one._since_s)
            self.connections.discard(longest)  # asyncio tells of its end only later
            longest.tasks.discard(longest.tasks.last)
            longest.transport.abort()

    @property
    def waits(self) -> bool:
        """Whether the client owes something: a request, or the rest of one."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body
