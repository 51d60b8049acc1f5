"""Connections on a real socket: slow and silent clients are cut off, and keep nobody out."""

import asyncio
import gc
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from model.config import ServeSettings
from model.serving.http.connection import LimitedProtocol
from tests.http_server import serving
from tests.served import write_model

LIMIT_S, CONNECTIONS = 0.5, 8
SETTINGS = ServeSettings(timeout_s=LIMIT_S, connections=CONNECTIONS)
HEAD = b"POST /rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a client of a server that waits half a second, for 8 connections."""
    data_dir = tmp_path_factory.mktemp("data")
    write_model(data_dir / "snapshots" / "silu")
    with serving(data_dir, settings=SETTINGS) as client:
        yield client


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)


def status(one: socket.socket) -> int:
    """Return the status of an answer that has been read to its end."""
    response = HTTPResponse(one)
    response.begin()
    response.read()
    return response.status


def is_cut(one: socket.socket) -> bool:
    """Return whether the server has closed a connection, having sent nothing."""
    try:
        return one.recv(1 << 20) == b""
    except ConnectionError:
        return True


def silent(one: socket.socket) -> None:
    """Send nothing."""


Start = Callable[[socket.socket], None]


def half_a_header(one: socket.socket) -> None:
    one.sendall(b"GET /live HTTP/1.1\r\nHost: local")


def half_a_body(one: socket.socket) -> None:
    one.sendall(HEAD + b'Content-Length: 99\r\n\r\n{"user": ')


def half_a_chunked_body(one: socket.socket) -> None:
    one.sendall(HEAD + b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"user": \r\n')


@pytest.mark.parametrize("start", [silent, half_a_header, half_a_body, half_a_chunked_body])
def test_a_request_that_does_not_arrive_is_cut_off(start: Start, client: httpx.Client) -> None:
    """After timeout_s, whichever part is missing."""
    with connect(client) as one:
        began_s = time.monotonic()
        start(one)
        assert is_cut(one)
        assert LIMIT_S * 0.9 < time.monotonic() - began_s < 5


def test_a_length_beyond_the_limit_is_refused_at_once(client: httpx.Client) -> None:
    """Nobody waits for a body that would be refused."""
    with connect(client) as one:
        one.sendall(HEAD + b"Content-Length: 1000000000000\r\n\r\n{}")
        assert status(one) == 413


@pytest.mark.parametrize("start", [half_a_header, half_a_body])
def test_a_byte_now_and_then_buys_no_time(start: Start, client: httpx.Client) -> None:
    """Slow-loris: the time counts from the first byte of a request, on a kept connection too."""
    with connect(client) as one:
        one.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(one) == 200
        time.sleep(0.2)
        start(one)
        began_s = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began_s < 5:
                one.sendall(b"x")
                time.sleep(0.05)
        assert LIMIT_S * 0.9 < time.monotonic() - began_s < 5


def test_a_client_that_does_not_read_is_cut_off(client: httpx.Client) -> None:
    """It asks and asks, and takes no answer: the server does not keep them for it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(5)
        one.connect((client.base_url.host, client.base_url.port))
        began_s = time.monotonic()
        with suppress(OSError):  # reset, broken pipe, or a send that never ends
            while time.monotonic() - began_s < 20:
                one.sendall(b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began_s < 5


def test_a_client_that_does_not_wait_for_answers_gets_one(client: httpx.Client) -> None:
    """Of requests sent at once the first is answered, and says that it is the last: nothing is computed unread."""
    with connect(client) as one:
        one.sendall(20 * b"GET /topk?user=ada HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = HTTPResponse(one)
        response.begin()
        assert (response.status, response.getheader("connection")) == (200, "close")
        response.read()
        assert is_cut(one)


def test_a_slow_but_steady_client_is_served(client: httpx.Client) -> None:
    """A header in five pieces, a body in five, within the time; then another request on the same connection."""
    body = b'{"user": "ada", "items": ["i1"]}'
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connect(client) as one:
        for _ in range(2):
            for start in range(0, len(request), 30):
                one.sendall(request[start : start + 30])
                time.sleep(0.04)
            assert status(one) == 200


def test_a_kept_connection_may_rest_between_requests(client: httpx.Client) -> None:
    """The time of a request begins with its first byte, not with the last answer."""
    with connect(client) as one:
        for _ in range(2):
            one.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(one) == 200
            time.sleep(2 * LIMIT_S)


@pytest.mark.parametrize("start", [half_a_header, half_a_body])
def test_the_longest_silent_give_way_to_new_connections(start: Start, client: httpx.Client) -> None:
    """Three times as many connections as allowed, each with half a request: whoever asks now is answered at once."""
    with ExitStack() as stack:
        for _ in range(3 * CONNECTIONS):
            start(stack.enter_context(connect(client)))
        began_s = time.monotonic()
        with connect(client) as one:
            one.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(one) == 200
        assert time.monotonic() - began_s < LIMIT_S


def test_as_many_connections_as_allowed_are_kept(client: httpx.Client) -> None:
    """The first of them may still ask once the last is there."""
    with ExitStack() as stack:
        first, *others = [stack.enter_context(connect(client)) for _ in range(CONNECTIONS)]
        for one in (*others, first):
            one.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(one) == 200


def test_requests_that_were_cut_off_count_no_more() -> None:
    """In one turn of the event loop a burst of half bodies comes and is cut: uvicorn still knows their requests."""
    loop = asyncio.new_event_loop()
    state, config = ServerState(), Config(app=_wait_for_body, limit_concurrency=CONNECTIONS, lifespan="off")
    config.load()
    kind: Any = type("Protocol", (LimitedProtocol,), {"timeout_s": 60})
    answers: list[tuple[bytes, bool]] = []

    async def burst() -> None:
        transports = [_Transport() for _ in range(3 * CONNECTIONS)]
        for transport in transports:
            one = transport.protocol = kind(config=config, server_state=state, app_state={}, _loop=loop)
            one.connection_made(transport)
            one.data_received(HEAD + b'Content-Length: 99\r\n\r\n{"user": ')
        await asyncio.sleep(0.01)
        gc.collect()
        await asyncio.sleep(0.01)
        answers.extend((bytes(transport.sent), transport.cut) for transport in transports)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    loop.run_until_complete(burst())
    loop.close()
    assert [sent for sent, _ in answers] == [b""] * len(answers)  # no 503
    assert [cut for _, cut in answers].count(True) == 2 * CONNECTIONS


async def _wait_for_body(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.Event().wait()  # an end without an answer would be a 500


class _Transport(asyncio.Transport):
    """A socket on which nothing happens; its end is told later, and its protocol kept till then, as asyncio does."""

    protocol: Any

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent, self.cut = bytearray(), False

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.cut = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.cut

    def close(self) -> None:
        self.cut = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
