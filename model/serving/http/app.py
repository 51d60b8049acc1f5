"""The query service: HTTP over the answers of one alias, which it follows from snapshot to snapshot.

    GET  /topk, /rank, /explain, /similar, /history, /freshness     queries (queries.py); also by POST, and for many
    GET  /snapshot, /snapshots, /snapshots/diff, POST /snapshots/alias    what answers, what there is, a rollback
    GET  /, /dashboard/…                                            the dashboard (dashboard.py)
    GET  /docs, /openapi.json                                       the API
    GET  /live, /ready, /health                                     probes, open to all; what is wrong
    GET  /metrics                                                   for Prometheus

HEAD works wherever GET does. Answers are computed and written as JSON in a pool of threads, explanations and
batches two at a time, so that other queries find a thread; only the decoding of a
body, a few milliseconds at most, runs in the event loop, so that probes never wait.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse

from model.config import ServeSettings
from model.dashboard.last_letters import LettersReader
from model.dashboard.overview import Overview
from model.serving.answerer import Answerer, answerer_for
from model.serving.hot_swap import Swapper
from model.serving.http.abandoned import until_abandoned
from model.serving.http.access import allowed_hosts, is_loopback, with_hosts, with_token
from model.serving.http.dashboard import add_dashboard
from model.serving.http.errors import Problem, add_errors, with_sentences
from model.serving.http.examples import add_examples
from model.serving.http.prometheus import ServerMetrics, access_log
from model.serving.http.queries import add_queries, answerer_of
from model.serving.http.questions import JsonRoute
from model.serving.http.snapshot_page import SnapshotPage, add_snapshots, snapshot_page
from model.serving.responses import QueryError, SnapshotInfo
from model.serving.sequences import Sequences
from model.snapshots.churn import Users
from model.storage.snapshot import Snapshot
from model.user_states.cache import UserStates

_STATIC: Final = "/docs/static"
_LISTS: Final = ("feature",)  # parameters that may be given again
_LENIENT: Final = ("/", "/docs", "/health", "/live", "/metrics", "/ready")  # unknown parameters are ignored
_THREADS: Final = max(8, 2 * (os.cpu_count() or 1))  # that answer; with many more, they and the event loop wait in turn


class Probe(BaseModel):
    """The answer of a probe; anything else has another status."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["alive", "ready"]
    """What was asked about."""


class Health(BaseModel):
    """Whether queries are answered, and by which snapshot."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ok", "degraded", "no snapshot"]
    """Degraded: an older snapshot answers than the alias names, or Kafka does not say which worker has what."""
    snapshot: SnapshotInfo | None
    """The snapshot that answers; null while there is none."""
    problem: str | None
    """What keeps the newest snapshot, or the newest events, from being used; null where nothing does. The server's log
    says more."""


def make_http_app(
    settings: ServeSettings,
    data_dir: Path,
    sequences: Users,
    *,
    token: str = "",
    address: str = "127.0.0.1",
    letters: LettersReader | None = None,
    wall: Callable[[], float] = time.time,
) -> FastAPI:
    """Return the application; its background task follows the alias while the application runs.

    Args:
        settings: Table [serve].
        data_dir: Holds the snapshots.
        sequences: Reader of the users' tokens.
        token: Token that clients must send; empty for none.
        address: IP address that is listened on.
        letters: Reads the last dead letters for the dashboard; None where no Kafka is named.
        wall: Wall time in seconds since 1970.
    """

    states = UserStates(int(settings.user_state_mib * 2**20))

    def make(snapshot: Snapshot) -> Answerer:
        answerer = answerer_for(
            snapshot, settings.alias, sequences, wall=wall, states=states if settings.user_state_mib else None
        )
        answerer.warm_up()
        return answerer

    directory = data_dir / "snapshots" / settings.name
    swapper = Swapper(directory, settings.alias, make)
    metrics = ServerMetrics(
        swapper, states, data_dir / "train", access_log(settings.access_log, partial(print, flush=True))
    )
    app = FastAPI(
        title="hstu-stream",
        description="Answers from the snapshots of a recommender.",
        lifespan=_following(swapper, settings.poll_s),
        responses={status: {"model": Problem} for status in (401, 413, 421, 422, 500, 503)},
        dependencies=[Depends(_refuse_odd_parameters)],
        docs_url=None,
        redoc_url=None,
    )
    app.router.route_class = JsonRoute
    app.state.one_large = CapacityLimiter(1)  # of bodies that are decoded
    app.state.stopping = asyncio.Event()
    add_errors(app)
    guard = [Security(HTTPBearer(auto_error=False))] if token else []  # for /docs; with_token is what guards
    add_queries(app, swapper, guard)
    add_snapshots(app, directory, swapper, sequences, guard)
    add_dashboard(app, swapper, Overview(settings, data_dir, letters), guard)
    _add_state(app, swapper, sequences, metrics, guard)
    _add_probes(app, swapper)
    _add_docs(app)
    add_examples(app.openapi())
    _add_head(app)
    _wrap(app, settings, token, allowed_hosts(settings, is_loopback(address)), metrics)
    return app


def _wrap(app: FastAPI, settings: ServeSettings, token: str, hosts: frozenset[str], metrics: ServerMetrics) -> None:
    """Add the middleware, the innermost first."""
    app.add_middleware(with_sentences)
    app.add_middleware(until_abandoned)
    if token:
        app.add_middleware(with_token, token)
    if hosts:
        app.add_middleware(with_hosts, hosts)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
        )
    app.add_middleware(metrics.middleware)


def _following(swapper: Swapper, poll_s: float) -> Any:
    """Return a lifespan during which the alias is followed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _THREADS
        await asyncio.to_thread(swapper.poll)
        follower = asyncio.create_task(_follow(swapper, poll_s))
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower

    return lifespan


async def _follow(swapper: Swapper, poll_s: float) -> None:
    while True:
        await asyncio.sleep(poll_s)
        await asyncio.to_thread(swapper.poll)


async def _refuse_odd_parameters(request: Request) -> None:
    """Refuse query parameters that would be ignored, or taken for others.

    A misspelt one would pass for its default, of one that is there twice the first would be ignored, and bytes that are
    no UTF-8 would all become the same character. Probes, scrapers and browsers may add some of their own.
    """
    if request.url.path in _LENIENT:
        return
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError:
        raise QueryError("The query is no UTF-8: encode ids in UTF-8 before they are quoted by %.") from None
    allowed = [field.alias for field in request.scope["route"].dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for place, name in enumerate(given):
        if name not in allowed:
            those = f"its parameters are {', '.join(allowed)}" if allowed else "it takes no query parameters"
            raise QueryError(f"{request.method} {request.url.path} has no parameter {name[:80]!r}; {those}.")
        if name in given[:place] and name not in _LISTS:
            raise QueryError(f"The parameter {name!r} is there more than once; give one value.")


def _add_state(app: FastAPI, swapper: Swapper, sequences: Sequences, metrics: ServerMetrics, guard: list[Any]) -> None:
    @app.get("/snapshot", dependencies=guard)
    async def snapshot() -> SnapshotPage:
        """Return which snapshot answers, how it was trained and how good it was."""
        answerer = answerer_of(swapper)
        return snapshot_page(answerer.manifest, answerer.info())

    @app.get("/health", dependencies=guard, responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Return whether queries are answered, and what is wrong."""
        answerer, problem = swapper.answerer, swapper.brief
        if answerer is None:
            response.status_code = 503
            return Health(status="no snapshot", snapshot=None, problem=problem)
        if not problem and (lacking := sequences.problem):
            problem = f"{lacking}; the server's log says why."
        return Health(status="degraded" if problem else "ok", snapshot=answerer.info(), problem=problem)

    @app.get("/metrics", include_in_schema=False)
    async def exposition() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_probes(app: FastAPI, swapper: Swapper) -> None:
    @app.get("/live")
    async def live() -> Probe:
        """Return that the server runs, even without a snapshot."""
        return Probe(status="alive")

    @app.get("/ready")
    async def ready() -> Probe:
        """Return that queries are answered; 503 until the first snapshot is loaded."""
        answerer_of(swapper)
        return Probe(status="ready")


def _add_docs(app: FastAPI) -> None:
    """Add the page of the API, whose scripts come from a package and not from the internet."""
    app.mount(_STATIC, StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        static = _STATIC.removeprefix("/")  # relative, so that the page works behind a proxy's prefix
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=f"{static}/swagger-ui-bundle.js",
            swagger_css_url=f"{static}/swagger-ui.css",
            swagger_favicon_url=f"{static}/favicon-32x32.png",
        )


def _add_head(app: FastAPI) -> None:
    """Let HEAD do what GET does, without a word in the OpenAPI page, which is made before."""
    app.openapi()
    for route in app.routes:
        methods = getattr(route, "methods", None) or set()
        if "GET" in methods:
            methods.add("HEAD")
