"""HTTP beside a worker or a trainer, on HOST:PORT.

/metrics    for Prometheus
/live       503 once the work has stood still for two minutes: restart the process
/ready      503 until the process has joined its group
and what a process adds
"""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server

from stream.errors import HstuError

STALE_S: Final = 120.0  # longer than any step, checkpoint or compilation takes
_CLIENT_S: Final = 10  # that a client may leave the server waiting

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]  # of WSGI


class Health:
    """Whether the work of a process goes on.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._beat_s = clock, clock()
        self.ready = False

    def beat(self, ready: bool) -> None:
        """Note that the work goes on, and whether the process has joined its group."""
        self._beat_s, self.ready = self._clock(), ready

    @property
    def alive(self) -> bool:
        """Whether there was a beat of late."""
        return self._clock() - self._beat_s < STALE_S


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
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise HstuError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror}; choose another {setting} (0: any)."
        ) from None
    server.set_app(_probed(server.get_app(), health, pages))
    handler: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": _CLIENT_S})

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop


def _probed(metrics: Any, health: Health, pages: Mapping[str, Application]) -> Application:
    """Wrap a WSGI application: answer the probes and the further pages."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if page := pages.get(environ["PATH_INFO"]):
            return page(environ, start_response)
        states = {"/live": health.alive, "/ready": health.alive and health.ready}
        holds = states.get(environ["PATH_INFO"])
        if holds is None:
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        start_response("200 OK" if holds else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if holds else b"no\n"]

    return application
