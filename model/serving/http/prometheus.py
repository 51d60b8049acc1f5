"""Prometheus metrics of the query service: requests, latencies, and the snapshot that answers; and the access log.

The log has one line a request, as text or JSON, on standard output:

    2026-11-26T18:21:13.123Z 127.0.0.1 GET /topk 200 4.1 ms
    {"time": "2026-11-26T18:21:13.123Z", "client": "127.0.0.1", "method": "GET", "path": "/topk", …, "ms": 4.1}

Neither query parameters (ids of users) nor headers (the token) are written. The path is as it was sent, in percent
encoding.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.config import AccessLogFormat
from model.serving.hot_swap import Swapper
from model.storage.checkpoint import farewell
from model.user_states.cache import UserStates

_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS: Final = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"))
_STREAM: Final = "text/event-stream"
_PATH: Final = 200  # characters of a path that are logged
_NO_AGE: Final = float("nan")  # while there is no snapshot


class ServerMetrics:
    """Metrics of one application, in their own registry.

    Args:
        swapper: Holds the snapshot that answers.
        states: The users' states.
        runs: Folder with a folder of each trainer, in which it leaves its farewell.
        log: Takes each request's scope, status and seconds.
    """

    def __init__(
        self, swapper: Swapper, states: UserStates, runs: Path, log: Callable[[Scope, int, float], None]
    ) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hstu_requests", "Requests answered.", ("method", "path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "hstu_request_seconds",
            "Time to answer; streams, which last as long as a page is open, are not among them.",
            ("path",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._swapper, self._log = swapper, log
        self._gauge("hstu_snapshot_age_seconds", "Wall time since the snapshot that answers was made.", self._age_s)
        self._gauge("hstu_snapshot_watermark_seconds", "Event time up to which it had learned.", self._watermark_s)
        self._gauge(
            "hstu_snapshot_problem",
            "1 while the alias cannot be followed; 0 before the first snapshot.",
            lambda: bool(swapper.problem and not swapper.waits),
        )
        self._gauge("hstu_user_state_bytes", "Memory of the users' states that are kept.", lambda: states.bytes)
        self.registry.register(_Counted(swapper, states))
        self.registry.register(_Diverged(runs))

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)

    def _age_s(self) -> float:
        answerer = self._swapper.answerer
        return answerer.info().age_s if answerer else _NO_AGE

    def _watermark_s(self) -> float:
        answerer = self._swapper.answerer
        return answerer.manifest.watermark_ms / 1000 if answerer else _NO_AGE

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Wrap the application: count each request by route and known method, so that labels stay few, and log it."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, streams, start_s = 500, False, time.perf_counter()

            async def noted(message: Message) -> None:
                nonlocal status, streams
                if message["type"] == "http.response.start":
                    status = message["status"]
                    streams = Headers(raw=message["headers"]).get("content-type", "").startswith(_STREAM)
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                path = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._requests.labels(method, path, status).inc()
                seconds = time.perf_counter() - start_s
                if not streams:
                    self._seconds.labels(path).observe(seconds)
                self._log(scope, status, seconds)

        return counted


class _Counted(Collector):
    """Counts that others keep themselves."""

    def __init__(self, swapper: Swapper, states: UserStates) -> None:
        self._swapper, self._states = swapper, states

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters."""
        yield CounterMetricFamily("hstu_snapshot_swaps", "Snapshots put in place.", value=self._swapper.swaps)
        text = "Histories whose state was looked for: all that can be kept of it was there (hit), a part, or nothing."
        counter = CounterMetricFamily("hstu_user_states", text, labels=("result",))
        for result, count in self._states.asked.items():
            counter.add_metric((result,), count)
        yield counter


class _Diverged(Collector):
    """What trainers that have ended can no longer export themselves."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a gauge of each trainer that has a folder here."""
        text = (
            "1 where the last run of a trainer has diverged, as its farewell says; 0 for others, or if it runs again."
        )
        gauge = GaugeMetricFamily("hstu_trainer_diverged", text, labels=("trainer",))
        for folder in sorted(self._runs.glob("[!.]*/")):
            gauge.add_metric((folder.name,), farewell(folder) == "diverged")
        yield gauge


def access_log(
    style: AccessLogFormat, write: Callable[[str], object], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Callable[[Scope, int, float], None]:
    """Return a function that logs a request by its scope, status and seconds."""

    def log(scope: Scope, status: int, seconds: float) -> None:
        fields = {
            "time": now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "client": (scope.get("client") or ("-",))[0],
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1")[:_PATH],
            "status": status,
            "ms": round(1000 * seconds, 1),
        }
        write(json.dumps(fields) if style == "json" else " ".join(map(str, fields.values())) + " ms")

    return log if style != "off" else lambda *_: None
