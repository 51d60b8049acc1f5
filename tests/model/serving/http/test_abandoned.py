"""Requests whose clients have gone, those that are too many, and those that run when the server has to end."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.config import ServeSettings
from model.serving.answerer import Answerer
from model.serving.http.queries import LongAnswers
from model.serving.responses import TopKBatch
from tests.http_server import serving, until
from tests.served import write_model

BODY = b'{"user": "ada", "items": ["i1"]}'
LONG = (
    b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
SHORT = b"GET /topk?user=ada HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONNECTIONS, THREADS = 8, 2


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data")
    write_model(found / "snapshots" / "silu")
    return found


@pytest.fixture(scope="module")
def client(data_dir: Path) -> Iterator[httpx.Client]:
    """Yield a client of a server that computes two answers at once, short or long."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("model.serving.http.app._THREADS", THREADS)  # read at the start
            client = stack.enter_context(serving(data_dir, settings=ServeSettings(connections=CONNECTIONS)))
        yield client


class Slow:
    """Answers that begin, and wait for leave to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.begun, self.go_on, answer = 0, threading.Event(), getattr(Answerer, name)

        def wait(*args: Any, **options: Any) -> Any:
            self.begun += 1
            self.go_on.wait(10)
            return answer(*args, **options)

        monkeypatch.setattr(Answerer, name, wait)


def ask(client: httpx.Client, request: bytes) -> socket.socket:
    one = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    one.sendall(request)
    return one


def ended(client: httpx.Client, name: str, status: str = ".*") -> int:
    """Return how many queries have, by the metrics."""
    found = re.findall(
        rf'hstu_requests_total\{{.*path="/{name}",status="{status}"\}} (\d+)', client.get("/metrics").text
    )
    return sum(map(int, found))


@pytest.mark.parametrize(("request_", "name"), [(LONG, "explain"), (SHORT, "topk")])
def test_what_nobody_waits_for_is_not_computed(
    request_: bytes, name: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for a thread leave the queue with their clients, those that have one end with it."""
    slow, before = Slow(monkeypatch, name), ended(client, name)
    try:
        first = [ask(client, request_) for _ in range(THREADS)]
        until(lambda: slow.begun == THREADS, "as many are computed as may be")
        more = [ask(client, request_) for _ in range(4)]
        for _ in range(3):
            client.get("/live")  # meanwhile they are taken
        for one in more:
            one.close()
        until(lambda: ended(client, name, "499") == 4, "those that waited have ended")
        for one in first:
            one.close()
    finally:
        slow.go_on.set()
    until(lambda: ended(client, name) - before == 4 + THREADS, "those that had a thread have ended")
    assert slow.begun == THREADS


@pytest.mark.parametrize("name", ["topk", "rank", "explain"])
def test_the_rest_of_a_batch_is_left_out(name: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its client has gone."""
    items = {} if name == "topk" else {"items": ["i1"]}
    slow, body = Slow(monkeypatch, name), json.dumps({"users": ["ada"] * 20, **items}).encode()
    head = b"POST /%b/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % name.encode()
    try:
        one = ask(client, head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        until(lambda: slow.begun == 1, "the first user's is computed")
        one.close()
        client.get("/live")
        time.sleep(0.5)
    finally:
        slow.go_on.set()
    until(lambda: ended(client, f"{name}/batch", "499") == 1, "it has ended")
    assert slow.begun < 5


def test_probes_are_answered_where_all_connections_are_busy(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get a sentence: a server that is busy is alive, and must not be restarted for it."""
    with serving(data_dir, settings=ServeSettings(connections=CONNECTIONS)) as client, ExitStack() as stack:
        slow = Slow(monkeypatch, "topk")  # what starts asks as well
        stack.callback(slow.go_on.set)
        for number in range(CONNECTIONS):
            stack.enter_context(ask(client, SHORT))
            until(lambda: slow.begun > number, "it is computed")  # noqa: B023  # within the turn
        busy = httpx.get(f"{client.base_url}/topk?user=ada")
        assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")
        assert "as many requests as it may" in busy.json()["detail"]
        assert [httpx.get(f"{client.base_url}/{probe}").status_code for probe in ("live", "ready")] == [200, 200]


def test_few_long_answers_wait(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may wait is refused at once, with a time to come again."""
    monkeypatch.setattr("model.serving.http.queries._WAITING", 1)
    slow = Slow(monkeypatch, "explain")
    with serving(data_dir) as client, ExitStack() as stack:
        stack.callback(slow.go_on.set)
        for _ in range(THREADS):
            stack.enter_context(ask(client, LONG))
        until(lambda: slow.begun == THREADS, "two are computed")
        waits = stack.enter_context(ask(client, LONG))
        for _ in range(3):
            client.get("/live")  # meanwhile it is taken
        refused = client.get("/explain?user=ada&items=i1")
        assert (refused.status_code, "wait already; ask again later" in refused.json()["detail"]) == (503, True)
        assert refused.headers["Retry-After"] == "5"
        slow.go_on.set()
        assert waits.recv(100).startswith(b"HTTP/1.1 200 ")


def test_of_a_burst_no_more_wait() -> None:
    """All questions of one turn of the event loop are counted before the next is let in."""
    go_on, begun = threading.Event(), []

    def answer() -> TopKBatch:
        begun.append(go_on.wait(10))
        return TopKBatch(answers=[])

    async def burst() -> list[Any]:
        long_answers = LongAnswers()
        asked = [asyncio.create_task(long_answers.answer(answer)) for _ in range(50)]
        await asyncio.sleep(0.1)
        go_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    ends = [end.status_code for end in asyncio.run(burst())]
    assert ends == [200] * (2 + 32) + [503] * 16
    assert begun == [True] * (2 + 32)


def test_at_the_end_of_the_grace_a_request_gets_a_sentence(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log no traceback."""
    monkeypatch.setattr("model.serving.http.server.GRACE_S", 0.1)
    with ThreadPoolExecutor() as pool:
        with serving(data_dir) as client:
            slow = Slow(monkeypatch, "topk")  # what starts asks as well
            waits = pool.submit(httpx.get, f"{client.base_url}/topk?user=ada", timeout=20)
            until(lambda: slow.begun == 1, "it is computed")
            threading.Timer(0.8, slow.go_on.set).start()
        answer = waits.result()
    assert (answer.status_code, "The server stops" in answer.json()["detail"]) == (503, True)
    assert not [record for record in caplog.records if record.exc_info]
