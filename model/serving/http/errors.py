"""Errors over HTTP: one sentence, {"detail": "…"}, without paths, settings or the words of libraries.

What is wrong with the query is said in full. What is wrong with this server goes to its log; the answer says so.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.errors import ModelError
from model.serving.http.questions import BODY_BYTES
from model.serving.responses import QueryError, UnknownError

_log: Final = logging.getLogger("hstu.serve")


class Problem(BaseModel):
    """An error."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    """What is wrong, and what to do, in a sentence."""


UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"model": Problem}}  # of endpoints that may not know something


class NotReadyError(ModelError):
    """There is no snapshot to answer from; its sentence names no path."""


class Seldom:
    """Logs one warning in ten seconds at most; the next one says how many were left out.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next_s, self._left_out = clock, 0.0, 0

    def warn(self, message: str) -> None:
        """Log the message, or count it."""
        if self._clock() < self._next_s:
            self._left_out += 1
            return
        more = f" ({self._left_out:,} more such lines were left out.)" if self._left_out else ""
        self._next_s, self._left_out = self._clock() + 10, 0
        _log.warning("%s%s", message, more)


def add_errors(app: FastAPI) -> None:
    """Answer each error with its status and a sentence."""
    seldom = Seldom()

    async def refused(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 422)

    async def unknown(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    async def not_ready(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 503)

    async def failed(_: Request, error: Exception) -> Response:
        seldom.warn(str(error))
        return JSONResponse({"detail": "This cannot be answered now; the server's log says why."}, 503)

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"detail": _sentence(error)}, 422)

    app.add_exception_handler(QueryError, refused)
    app.add_exception_handler(UnknownError, unknown)
    app.add_exception_handler(NotReadyError, not_ready)
    app.add_exception_handler(ModelError, failed)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, _of_http)


async def _of_http(request: Request, error: Exception) -> Response:
    """Answer what no endpoint has taken: an unknown path, a wrong method, a body that is too large."""
    assert isinstance(error, HTTPException)
    if error.status_code == 413:
        return JSONResponse({"detail": f"The body is larger than {BODY_BYTES:,} bytes; ask for less at a time."}, 413)
    if error.status_code == 405:
        methods = ", ".join(_methods(request))
        return JSONResponse({"detail": f"This path knows {methods}; /docs lists all."}, 405, {"Allow": methods})
    if error.status_code == 404:
        return JSONResponse({"detail": "There is nothing at this path; /docs lists what there is."}, 404)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes at the path of a request."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def with_sentences(app: ASGIApp) -> ASGIApp:
    """Wrap the application: answer unforeseen errors with a sentence too; raised, they would close the connection."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, noted)
        except Exception:
            if started or scope["type"] != "http":
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            detail = "The query failed by a fault of this server; its log has the traceback."
            await JSONResponse({"detail": detail}, 500)(scope, receive, send)

    return answered


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "missing":
        return f"{place} is missing; /docs shows what a query needs."
    if first["type"] == "extra_forbidden":
        return f"{place} is no field of this question; /docs shows those that are."
    if first["type"] == "json_invalid":
        return f"The body is refused: {first['ctx']['error']}; /docs shows what is allowed."
    if first["type"] == "model_attributes_type":
        return "The body is no JSON object; send one, with the header Content-Type: application/json."
    return f"{place} is refused: {first['msg']}; /docs shows what is allowed."
