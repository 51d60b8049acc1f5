"""Prometheus metrics of the query service: requests, latencies, and the snapshot that answers."""

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.serving.hot_swap import Swapper

_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS: Final = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"))
_NO_AGE: Final = float("nan")  # while there is no snapshot


class ServerMetrics:
    """Metrics of one application, in their own registry.

    Args:
        swapper: Holds the snapshot that answers.
        log: Takes each request's scope, status and seconds.
    """

    def __init__(self, swapper: Swapper, log: Callable[[Scope, int, float], None]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hstu_requests", "Requests answered.", ("method", "path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "hstu_request_seconds", "Time to answer.", ("path",), buckets=_BUCKETS_S, registry=self.registry
        )
        self._swapper, self._log = swapper, log
        self._gauge("hstu_snapshot_age_seconds", "Wall time since the snapshot that answers was made.", self._age_s)
        self._gauge("hstu_snapshot_watermark_seconds", "Event time up to which it had learned.", self._watermark_s)
        self._gauge("hstu_snapshot_swaps", "Snapshots put in place so far.", lambda: swapper.swaps)
        self._gauge("hstu_snapshot_problem", "1 while the alias cannot be followed.", lambda: bool(swapper.problem))

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
            status, start_s = 500, time.perf_counter()

            async def noted(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                path = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._requests.labels(method, path, status).inc()
                seconds = time.perf_counter() - start_s
                self._seconds.labels(path).observe(seconds)
                self._log(scope, status, seconds)

        return counted
