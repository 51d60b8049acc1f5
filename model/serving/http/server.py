"""The server's process: its socket, its limits, its log, and a clean end at SIGTERM."""

import asyncio
import errno
import logging
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from model.config import ServeSettings
from model.dashboard.last_letters import LettersReader
from model.errors import ModelError
from model.serving.http.access import check_reach, read_token
from model.serving.http.app import make_http_app
from model.serving.http.connection import LimitedProtocol
from model.serving.http.errors import Seldom
from model.snapshots.churn import Users

GRACE_S: Final = 10  # that running requests get after SIGTERM
_REST_S: Final = 75  # between two requests on a connection: longer than proxies keep theirs, so that none is cut in use
_BACKLOG: Final = 128  # connections that wait to be accepted; they are accepted, and need a file each, in one go
_log: Final = logging.getLogger("hstu.serve")


def run_server(settings: ServeSettings, data_dir: Path, sequences: Users, letters: LettersReader | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests that run then are answered first.

    Raises:
        ModelError: The address is taken, not one of this machine, or needs a token; too few files may be open.
    """
    _log_to_stderr()
    raise_file_limit(settings.connections)
    token = read_token(settings)
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    try:
        check_reach(host, token)
        shown = f"[{host}]" if ":" in host else host
        app = make_http_app(settings, data_dir, sequences, token=token, address=host, letters=letters)
        where = f"Answers of {settings.name}/{settings.alias}: http://{shown}:{port} (dashboard at /; /docs, /ready)"
        _until_signalled(make_server(app, settings, lambda: _log.info(where)), listener)
    finally:
        listener.close()


def make_server(app: FastAPI, settings: ServeSettings, greet: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return a server with the limits of these settings; it greets once it listens."""
    config = uvicorn.Config(
        app,
        http=type("Protocol", (LimitedProtocol,), {"timeout_s": settings.timeout_s}),
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=settings.connections,
        timeout_keep_alive=_REST_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return _Server(config, greet, app.state.stopping)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, greet: Callable[[], None], stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._greet, self._seldom = greet, Seldom()
        self._stopping: asyncio.Event = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()  # ends the streams of the dashboard, which would last until the end of the grace
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_error)
        await super().startup(sockets)
        if self.started:
            self._greet()

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a failed accept in a line: asyncio logs a traceback for each, thousands a second."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            self._seldom.warn(f"A connection was not accepted: {error.strerror}; lower serve.connections.")
        else:
            loop.default_exception_handler(context)


def _until_signalled(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn raises the signal again once it is down; this handler makes that the clean end of the process.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore the signal: the server is already down."""


def _log_to_stderr() -> None:
    """Set up logging, unless it is set up already."""
    if not logging.root.handlers:
        logging.basicConfig(format="%(asctime)s %(levelname).1s %(message)s", level=logging.WARNING)
        logging.getLogger("hstu").setLevel(logging.INFO)


def raise_file_limit(connections: int) -> None:
    """Let this process open as many files as it may, which must be twice the connections at least.

    Raises:
        ModelError: It may not open enough.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < 2 * connections:
        raise ModelError(
            f"{connections} connections (serve.connections) want {2 * connections} open files, and this process may "
            f"have {most}; raise `ulimit -n`, or lower serve.connections."
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, whose connections send small answers at once (TCP_NODELAY).

    asyncio sets that only for sockets that name their protocol, and those of create_server do not. Without it every
    answer on a kept connection waits for the client's delayed acknowledgement, 40 ms.

    Raises:
        ModelError: The address is taken, or not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ModelError(
            f"Cannot listen on {host}:{port}: {error.strerror}; choose another with --host and --port."
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
