"""The query service: HTTP over the answers of one alias, which it follows from snapshot to snapshot.

    GET  /topk?user=U&k=10                the best live items for a user           POST /topk {"sequence": [ids], "k"}
    GET  /rank?user=U&items=a,b,c         candidates in order, in one pass         POST /rank {"user", "items": [ids]}
    GET  /snapshot                        what answers now                         GET  /docs, /openapi.json
    GET  /health                          503 until there is a snapshot            GET  /metrics for Prometheus

An error is one sentence, {"detail": "…"}: status 422 where the query is wrong, 503 while there is no snapshot or no
store to read, 500 for a bug. Answers are computed in a pool of threads, so that they never delay the event loop,
/health and /metrics.
"""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal

import uvicorn
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.config import ServeSettings
from model.errors import ModelError
from model.serving.answerer import Answerer, answerer_at
from model.serving.hot_swap import Swapper
from model.serving.prometheus import ServerMetrics
from model.serving.responses import MAX_ITEMS, MAX_K, QueryError, Ranking, SnapshotInfo, TopK
from model.serving.sequences import Sequences
from model.storage.snapshot import Manifest
from stream.example import END_OF_TIME_MS, id_text

_log: Final = logging.getLogger("hstu.serve")
GRACE_S: Final = 10  # that running requests get after SIGTERM
_NOW: Final = "Time of the request in event time, ms; default: now."


class Problem(BaseModel):
    """An error."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    """What is wrong, and what to do, in a sentence."""


class Health(BaseModel):
    """Whether queries are answered, and by which snapshot."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ok", "degraded", "no snapshot"]
    """Degraded: an older snapshot answers than the alias names."""
    snapshot: SnapshotInfo | None
    problem: str | None
    """Why the newest snapshot does not answer; null where it does."""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    now_ms: int | None = Field(None, ge=0, le=END_OF_TIME_MS, description=_NOW)


class TopKQuestion(_Question):
    """A sequence in place of a user."""

    sequence: list[str | int] = Field(description=f"Items acted on, oldest first; 1 to {MAX_ITEMS:,}.")
    k: int = 10
    include_seen: bool = False


class RankQuestion(_Question):
    """Candidates to put in order for a user."""

    user: str | int
    items: list[str | int] = Field(description=f"1 to {MAX_ITEMS:,} item ids.")


_K = Annotated[int, Query(description="Items wanted.", json_schema_extra={"minimum": 1, "maximum": MAX_K})]
_User = Annotated[str, Query(description="Id of the user.")]
_Now = Annotated[int | None, Query(ge=0, le=END_OF_TIME_MS, description=_NOW)]
_Seen = Annotated[bool, Query(description="Also items that the user has acted on.")]
_Items = Annotated[str, Query(description=f"1 to {MAX_ITEMS:,} item ids with commas between; POST takes any id.")]


def make_http_app(
    settings: ServeSettings, data_dir: Path, sequences: Sequences, *, wall: Callable[[], float] = time.time
) -> FastAPI:
    """Return the application; its background task follows the alias while the application runs."""

    def load(path: Path) -> Answerer:
        return answerer_at(path, settings.alias, sequences, wall=wall)

    swapper = Swapper(data_dir / "snapshots" / settings.name, settings.alias, load)
    metrics = ServerMetrics(swapper)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(swapper.poll)
        follower = asyncio.create_task(_follow(swapper, settings.poll_s))
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower

    app = FastAPI(
        title="hstu-stream",
        description=f"Answers from the snapshots of {settings.name}, alias {settings.alias}.",
        lifespan=lifespan,
        responses={422: {"model": Problem}, 503: {"model": Problem}},
        dependencies=[Depends(_refuse_unknown_parameters)],
    )
    app.add_middleware(_with_sentences)
    app.add_middleware(metrics.middleware)
    _add_errors(app)
    _add_queries(app, swapper)
    _add_state(app, swapper, metrics)
    return app


async def _follow(swapper: Swapper, poll_s: float) -> None:
    while True:
        await asyncio.sleep(poll_s)
        await asyncio.to_thread(swapper.poll)


async def _refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the endpoint does not have: ignored, a misspelt one would pass for its default.

    Probes and scrapers may add some of their own.
    """
    if request.url.path in ("/health", "/metrics"):
        return
    allowed = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in allowed:
            those = f"its parameters are {', '.join(allowed)}" if allowed else "it takes no query parameters"
            raise QueryError(f"{request.method} {request.url.path} has no parameter {name!r}; {those}.")


def _answerer(swapper: Swapper) -> Answerer:
    answerer = swapper.answerer
    if answerer is None:
        raise ModelError(swapper.problem or "No snapshot is loaded yet; ask again in a moment.")
    return answerer


def _add_queries(app: FastAPI, swapper: Swapper) -> None:
    @app.get("/topk")
    def topk(user: _User, k: _K = 10, include_seen: _Seen = False, now_ms: _Now = None) -> TopK:
        """Return the best live items for a user, by popularity where the user is unknown."""
        return _answerer(swapper).topk(user, k, now_ms, include_seen=include_seen)

    @app.post("/topk")
    def topk_sequence(question: TopKQuestion) -> TopK:
        """Return the best live items after a sequence of items."""
        sequence = [id_text(item) for item in question.sequence]
        answerer = _answerer(swapper)
        return answerer.topk_sequence(sequence, question.k, question.now_ms, include_seen=question.include_seen)

    @app.get("/rank")
    def rank(user: _User, items: _Items, now_ms: _Now = None) -> Ranking:
        """Return the candidates in order, each scored as if it alone were shown to the user now."""
        return _answerer(swapper).rank(user, items.split(",") if items else [], now_ms)

    @app.post("/rank")
    def rank_any(question: RankQuestion) -> Ranking:
        """Return the candidates in order; for ids with commas and for long lists."""
        items = [id_text(item) for item in question.items]
        return _answerer(swapper).rank(id_text(question.user), items, question.now_ms)


def _add_state(app: FastAPI, swapper: Swapper, metrics: ServerMetrics) -> None:
    @app.get("/snapshot")
    async def snapshot() -> dict[str, Any]:
        """Return the manifest of the snapshot that answers, with its alias and age."""
        answerer = _answerer(swapper)
        return {**_fields(answerer.manifest), **answerer.info().model_dump(include={"alias", "age_s"})}

    @app.get("/health")
    async def health(response: Response) -> Health:
        """Return whether queries are answered."""
        answerer, problem = swapper.answerer, swapper.problem
        if answerer is None:
            response.status_code = 503
            return Health(status="no snapshot", snapshot=None, problem=problem)
        return Health(status="degraded" if problem else "ok", snapshot=answerer.info(), problem=problem)

    @app.get("/metrics", include_in_schema=False)
    async def exposition() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def _add_errors(app: FastAPI) -> None:
    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: JSONResponse({"detail": str(error)}, status)

    def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"detail": _sentence(error)}, 422)

    app.add_exception_handler(QueryError, answer(422))
    app.add_exception_handler(ModelError, answer(503))
    app.add_exception_handler(RequestValidationError, malformed)


def _with_sentences(app: ASGIApp) -> ASGIApp:
    """Wrap the application: answer unforeseen errors with a sentence too; raised, they would close the connection."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, noted)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            detail = f"The query failed: {error!r}; the server's log has the traceback."
            await JSONResponse({"detail": detail}, 500)(scope, receive, send)

    return answered


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "missing":
        return f"{place} is missing; /docs shows what a query needs."
    return f"{place} is refused: {first['msg']}; /docs shows what is allowed."


def run_server(settings: ServeSettings, data_dir: Path, sequences: Sequences) -> None:
    """Serve until SIGTERM or SIGINT; requests that run then are answered first.

    Raises:
        ModelError: The address is taken, or not one of this machine.
    """
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    app = make_http_app(settings, data_dir, sequences)
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=GRACE_S)
    server = _Server(config, f"Answers of {settings.name}/{settings.alias}: http://{shown}:{port} (/docs, /health)")
    # uvicorn raises the signal again once it is down; this handler makes that the clean end of the process.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore the signal: the server is already down."""


class _Server(uvicorn.Server):
    """Prints its greeting once it listens."""

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._greeting)
            sys.stdout.flush()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, whose connections send small answers at once (TCP_NODELAY).

    asyncio sets that only for sockets that name their protocol, and those of create_server do not. Without it every
    answer on a kept connection waits for the client's delayed acknowledgement, 40 ms.

    Raises:
        ModelError: The address is taken, or not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ModelError(
            f"Cannot listen on {host}:{port}: {error.strerror}; choose another with --host and --port."
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
