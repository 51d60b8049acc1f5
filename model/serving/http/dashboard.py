"""The dashboard: one page, and a stream of server-sent events that keeps it up to date.

    event: now       every two seconds: the snapshot that answers, processes, snapshots, dead letters, names of trainers
    event: points    {"trainer", "generation", "from", "points"}: windows of a trainer's metrics that were not sent yet
    event: full      too many watch already; the stream ends

The page is the same for every server and is open; the stream and what the page asks need the token. EventSource sends
no headers, so the page reads the stream by fetch. Its scripts come from this package: Content-Security-Policy allows
nothing else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from model.dashboard.metrics_logs import Series
from model.dashboard.overview import Overview
from model.serving.hot_swap import Swapper
from model.serving.http.access import ASSETS

EVERY_S: Final = 2.0
WATCHERS: Final = 16
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
_STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Watcher:
    """What one page has been sent of each trainer's series."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, int]] = {}

    def points(self, series: Mapping[str, Series]) -> list[dict[str, Any]]:
        """Return the data of an event for each trainer that has something new."""
        events = []
        self._sent = {name: sent for name, sent in self._sent.items() if name in series}
        for name, one in series.items():
            generation, start = self._sent.get(name, (-1, 0))
            if generation != one.generation:
                start = 0
            if generation != one.generation or start < len(one.points):
                new = {"generation": one.generation, "from": start, "points": one.points[start:]}
                events.append({"trainer": name, **new})
            self._sent[name] = one.generation, len(one.points)
        return events


def add_dashboard(app: FastAPI, swapper: Swapper, overview: Overview, guard: list[Any]) -> None:
    """Add the page and its stream."""
    page = files("model.dashboard").joinpath("static/index.html").read_text()
    watchers: set[Watcher] = set()

    @app.get("/", include_in_schema=False)
    async def dashboard() -> HTMLResponse:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @app.get("/dashboard/stream", include_in_schema=False, dependencies=guard)
    async def stream() -> StreamingResponse:
        return StreamingResponse(watched(), media_type="text/event-stream", headers=_STREAM_HEADERS)

    async def watched() -> AsyncIterator[str]:
        if len(watchers) >= WATCHERS:
            yield _event("full", WATCHERS)
            return
        watcher = Watcher()
        watchers.add(watcher)
        try:
            while not app.state.stopping.is_set():
                now, series = await run_sync(overview.look, _learned(swapper))
                for points in watcher.points(series):
                    yield _event("points", points)
                yield _event("now", {**_serving(swapper), **now, "trainers": list(series)})
                with suppress(TimeoutError):
                    await asyncio.wait_for(app.state.stopping.wait(), EVERY_S)
        finally:
            watchers.discard(watcher)

    app.mount(ASSETS.rstrip("/"), StaticFiles(packages=[("model.dashboard", "static")]))


def _learned(swapper: Swapper) -> int | None:
    return swapper.answerer.manifest.examples if swapper.answerer else None


def _serving(swapper: Swapper) -> dict[str, Any]:
    answerer = swapper.answerer
    fresh = answerer.freshness().model_dump() if answerer else None
    state = {"problem": swapper.brief, "waits": swapper.waits, "swaps": swapper.swaps}
    return {"follows": swapper.alias, "serving": fresh, "root": swapper.root, **state}


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
