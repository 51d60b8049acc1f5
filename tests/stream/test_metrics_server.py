"""Probes and metrics on a real port."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from stream.errors import HstuError
from stream.metrics_server import STALE_S, Health, serve_metrics


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


@pytest.fixture
def client(health: Health) -> Iterator[httpx.Client]:
    registry = CollectorRegistry()
    Gauge("answer", "What it is.", registry=registry).set(42)
    port, stop = serve_metrics(registry, "127.0.0.1", 0, health, "stream.metrics_port")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/live")


def statuses(client: httpx.Client) -> tuple[int, int]:
    return client.get("/live").status_code, client.get("/ready").status_code


def test_a_process_is_alive_from_its_start_and_ready_once_it_has_joined(
    client: httpx.Client, health: Health, clock: Clock
) -> None:
    """Alive as long as its work goes on; one that hangs is neither alive nor ready."""
    assert statuses(client) == (200, 503)
    health.beat(False)
    assert statuses(client) == (200, 503)
    health.beat(True)
    assert statuses(client) == (200, 200)
    clock.now_s += STALE_S
    assert statuses(client) == (503, 503)
    health.beat(True)
    assert statuses(client) == (200, 200)
    assert client.head("/live").status_code == 200


def test_metrics_are_beside_the_probes(client: httpx.Client) -> None:
    """At /metrics, as Prometheus asks for them."""
    assert "answer 42.0" in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/", "/health", "/readyz", "/metrics/"])
def test_a_path_that_is_none_is_not_found(client: httpx.Client, path: str) -> None:
    """So a probe with a misspelt path fails, and does not hold for ever."""
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (404, "There is /metrics, /live, /ready.\n")


def test_a_port_that_is_taken_is_a_sentence(health: Health) -> None:
    """The sentence names the address and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HstuError, match=rf"cannot be served on 127.0.0.1:{port}: .*another train.metrics_port"):
            serve_metrics(CollectorRegistry(), "127.0.0.1", port, health, "train.metrics_port")


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=5)


def test_slow_clients_have_few_threads_and_keep_no_probe_out(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four times as many connections as allowed, each with half a request: a probe is answered, nothing is logged."""
    monkeypatch.setattr("stream.metrics_server._CONNECTIONS", 6)
    monkeypatch.setattr("stream.metrics_server._PATIENCE_S", 0.02)
    threads = threading.active_count()
    with ExitStack() as stack:
        for _ in range(24):
            one = stack.enter_context(connect(client))
            one.sendall(b"GET /live HTTP/1.1\r\nHost: local")
        assert client.get("/live").status_code == 200
        assert threading.active_count() - threads <= 6
    assert "Traceback" not in capfd.readouterr().err


def test_a_byte_now_and_then_buys_no_time(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts from the connection to the end of the header."""
    monkeypatch.setattr("stream.metrics_server._CLIENT_S", 0.2)
    with connect(client) as one, suppress(ConnectionError):
        began_s = time.monotonic()
        one.sendall(b"GET /live HTTP/1.1\r\nX: ")
        while time.monotonic() - began_s < 5:
            one.sendall(b"x")
            time.sleep(0.02)
    assert time.monotonic() - began_s < 2


def test_a_page_that_fails_is_logged_and_a_client_that_goes_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """The first is a fault of ours; the server goes on after both."""

    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"]:
            raise TimeoutError("the client takes nothing")
        raise KeyError("a fault")

    port, stop = serve_metrics(CollectorRegistry(), "127.0.0.1", 0, Health(), "", {"/page": page})
    url = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{url}/page?gone").status_code == 500
    assert caplog.messages == []
    assert httpx.get(f"{url}/page").status_code == 500
    assert caplog.messages == ["A request to the metrics port failed"]
    assert httpx.get(f"{url}/live").status_code == 200
    stop()


def test_a_process_that_serves_metrics_may_open_all_files_that_it_can(client: httpx.Client) -> None:
    """Its stores want many of them beside the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
