"""What happens to requests that nobody waits for: a client has closed its connection, or the server has to end.

Of an abandoned request nothing more is computed: it leaves the queue for a thread at once, and one that has a thread
ends with that part of its work. Otherwise a client that asks, goes and asks again would keep the server at work for
minutes. Such a request counts as 499 in the metrics and the access log, as proxies log it.
"""

import asyncio
from contextlib import suppress
from typing import Final

from anyio import CancelScope
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ABANDONED: Final = 499
_BODILESS: Final = ("GET", "HEAD")
_STOPS: Final = "The server stops; ask again, or another one."


def until_abandoned(app: ASGIApp) -> ASGIApp:
    """Wrap the application: end a request once its client has gone, and with a sentence at the end of the grace."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            with suppress(asyncio.CancelledError):  # which uvicorn does at the end of its grace
                await _Request(scope, receive, send).run(app)
        else:
            await app(scope, receive, send)

    return watched


class _Request:
    """One request, and whether its client is still there."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._arrived = asyncio.Event()  # the whole body: from then on there is nothing to receive but the end
        if scope["method"] in _BODILESS:
            self._arrived.set()
        self._started = self._ended = False
        self._cancel = CancelScope()

    async def run(self, app: ASGIApp) -> None:
        """Answer it, unless its client goes before.

        Raises:
            CancelledError: The server cannot wait; the client has been told.
        """
        watch = asyncio.create_task(self._watch())
        try:
            with self._cancel:
                await app(self._scope, self._noting_body, self._noting_answer)
        except asyncio.CancelledError:
            await self._say(503)
            raise
        finally:
            watch.cancel()
        if self._cancel.cancelled_caught:
            await self._say(ABANDONED)

    async def _watch(self) -> None:
        """Cancel the request when its client has gone before the end of the answer."""
        await self._arrived.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self._cancel.cancel()

    async def _noting_body(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._cancel.cancel()
        elif not message.get("more_body", False):
            self._arrived.set()
        return message

    async def _noting_answer(self, message: Message) -> None:
        self._started = True
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def _say(self, status: int) -> None:
        if not self._started:
            await JSONResponse({"detail": _STOPS}, status)(self._scope, self._receive, self._send)
