"""HTTP beside a worker or a trainer, on HOST:PORT.

/metrics    for Prometheus
/live       503 once the work has stood still for two minutes, or compiled for 15: restart the process
/ready      503 until the process has joined its group
and what a process adds

A request has to arrive within _CLIENT_S, and each part of its answer to be taken; a connection carries one. There are
_CONNECTIONS at most, each with a thread: of more, the one that has waited longest for its request is closed, once it
has had _PATIENCE_S. So clients that send nothing, or a byte a second, neither end the process nor keep probes out.
"""

import io
import logging
import resource
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from stream.errors import HstuError
from stream.timed_reader import TimedReader

STALE_S: Final = 120.0  # longer than any step or checkpoint takes
BUSY_S: Final = 900.0  # longer than a machine that has much else to do compiles all loops
_CLIENT_S: Final = 10.0  # that a request may take to arrive, and a client to take a part of its answer
_CONNECTIONS: Final = 128
_PATIENCE_S: Final = 0.5
_LINE_BYTES: Final = 65536
_POLL_S: Final = 0.1  # after which a stop is seen
_log: Final = logging.getLogger("hstu.metrics")

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]  # of WSGI


class Health:
    """Whether the work of a process goes on.

    Args:
        clock: Monotonic seconds.
        busy: Returns whether the process is at something that takes longer than its work, and ends by itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, busy: Callable[[], bool] = lambda: False) -> None:
        self._clock, self._beat_s, self._busy = clock, clock(), busy
        self.ready = False

    def beat(self, ready: bool) -> None:
        """Note that the work goes on, and whether the process has joined its group."""
        self._beat_s, self.ready = self._clock(), ready

    @property
    def alive(self) -> bool:
        """Whether there was a beat of late."""
        return self._clock() - self._beat_s < (BUSY_S if self._busy() else STALE_S)


def serve_metrics(
    registry: CollectorRegistry,
    host: str,
    port: int,
    health: Health,
    setting: str,
    pages: Mapping[str, Application] = MappingProxyType({}),
) -> tuple[int, Callable[[], None]]:
    """Serve metrics, probes and further pages; return the port and a function that stops the server.

    Raises:
        HstuError: The port is taken; the sentence names the setting.
    """
    try:
        server = _Server(host, port, _probed(make_wsgi_app(registry), health, pages))
    except OSError as error:
        raise HstuError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror}; choose another {setting} (0: any)."
        ) from None
    _raise_file_limit()
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="hstu-metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop


def _raise_file_limit() -> None:
    """Let this process open as many files as it may: stores want many, and connections have one each."""
    with suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which there are not too many."""

    daemon_threads = True
    request_queue_size = _CONNECTIONS

    def __init__(self, host: str, port: int, application: Application) -> None:
        self.address_family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._waiting: dict[socket.socket, float] = {}  # for their request: since when, the longest first
        self._open: set[socket.socket] = set()
        self._freed = threading.Condition()
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(application)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to serve a connection, once there is room for it."""
        if not self._make_room():
            self.shutdown_request(request)
            return
        with self._freed:
            self._open.add(request)
            self._waiting[request] = time.monotonic()
        super().process_request(request, client_address)

    def _make_room(self) -> bool:
        """Close connections that send no request, or wait for one that ends; return whether there is room."""
        until_s = time.monotonic() + 2 * _PATIENCE_S
        with self._freed:
            while len(self._open) >= _CONNECTIONS and time.monotonic() < until_s:
                longest, since_s = next(iter(self._waiting.items()), (None, time.monotonic()))
                if longest is not None and time.monotonic() - since_s >= _PATIENCE_S:
                    del self._waiting[longest]
                    with suppress(OSError):
                        longest.shutdown(socket.SHUT_RDWR)  # its thread ends, and closes it
                self._freed.wait(_PATIENCE_S / 10)
            return len(self._open) < _CONNECTIONS

    def arrived(self, request: Any) -> None:
        """Note that the request of a connection is here."""
        with self._freed:
            self._waiting.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        super().shutdown_request(request)
        with self._freed:
            self._open.discard(request)
            self._waiting.pop(request, None)
            self._freed.notify()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault of ours, and pass over a client that is slow or gone."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("A request to the metrics port failed")


class _Handler(WSGIRequestHandler):
    """Reads one request in time, and answers it."""

    timeout = _CLIENT_S
    server: _Server

    def setup(self) -> None:
        """Bound the time for the whole request; the socket's own timeout bounds each write."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(TimedReader(self.connection, time.monotonic() + _CLIENT_S))

    def handle(self) -> None:
        """Answer the request, or close the connection where it is none."""
        self.raw_requestline = self.rfile.readline(_LINE_BYTES)
        if not self.parse_request():
            return
        self.server.arrived(self.request)
        streams: tuple[Any, Any] = self.rfile, self.wfile
        answer = _Answer(*streams, self.get_stderr(), self.get_environ())
        answer.request_handler = self  # type: ignore[attr-defined]
        answer.run(self.server.get_app())  # type: ignore[arg-type]

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Answer(ServerHandler):
    def log_exception(self, exc_info: Any) -> None:
        """Log a fault of ours, and pass over a client that does not take its answer."""
        if not isinstance(exc_info[1], OSError):
            _log.error("A request to the metrics port failed", exc_info=exc_info)


def _probed(metrics: Any, health: Health, pages: Mapping[str, Application]) -> Application:
    """Wrap a WSGI application: answer the probes and the further pages."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if page := pages.get(environ["PATH_INFO"]):
            return page(environ, start_response)
        states = {"/live": health.alive, "/ready": health.alive and health.ready}
        path, text = environ["PATH_INFO"], [("Content-Type", "text/plain")]
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        if path not in states:
            start_response("404 Not Found", text)
            return [f"There is {', '.join(('/metrics', *states, *pages))}.\n".encode()]
        start_response("200 OK" if states[path] else "503 Service Unavailable", text)
        return [b"yes\n" if states[path] else b"no\n"]

    return application
