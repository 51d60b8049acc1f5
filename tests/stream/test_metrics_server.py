"""Probes and metrics on a real port."""

import socket
from collections.abc import Iterator

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


def test_a_port_that_is_taken_is_a_sentence(health: Health) -> None:
    """The sentence names the address and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HstuError, match=rf"cannot be served on 127.0.0.1:{port}: .*another train.metrics_port"):
            serve_metrics(CollectorRegistry(), "127.0.0.1", port, health, "train.metrics_port")
