import asyncio
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from starlette.types import Message, Receive, Scope, Send

from model.config import ServeSettings
from model.serving.answerer import Answerer
from model.serving.hot_swap import Swapper
from model.serving.http.prometheus import ServerMetrics
from model.storage.snapshot import Snapshot
from model.user_states.cache import UserStates
from tests.http_server import serving
from tests.served import NOW_MS, Memory, tokens_of, write_model


def test_requests_and_age_are_exposed_to_prometheus(tmp_path: Path) -> None:
    """Counts by method, route and status, latencies, the snapshot's age; unknown methods and paths share one label."""
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path) as client:
        for method in ("BREW", "X1", "X2"):
            client.request(method, "/secret/3")
        for path in ("/topk?user=ada", "/topk?user=ada&k=0", "/secret/1", "/secret/2"):
            client.get(path)
        lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['hstu_requests_total{method="GET",path="/topk",status="200"}']) == 1
    assert float(values['hstu_requests_total{method="GET",path="/topk",status="422"}']) == 1
    assert float(values['hstu_requests_total{method="GET",path="other",status="404"}']) == 2
    assert float(values['hstu_requests_total{method="other",path="other",status="404"}']) == 3
    assert float(values['hstu_request_seconds_count{path="/topk"}']) == 2
    assert float(values["hstu_snapshot_age_seconds"]) == 10
    assert float(values["hstu_snapshot_watermark_seconds"]) == NOW_MS / 1000 - 60
    assert float(values["hstu_snapshot_problem"]) == 0
    assert float(values["hstu_snapshot_swaps_total"]) == 1
    assert not any(word in line for word in ("secret", "BREW", "X1") for line in lines)


def test_before_the_first_snapshot_there_is_no_problem(tmp_path: Path) -> None:
    """An empty system has nothing that an alert could ask for."""
    with serving(tmp_path) as client:
        assert client.get("/health").json()["problem"] == "latest names no snapshot yet."
        assert "\nhstu_snapshot_problem 0.0\n" in client.get("/metrics").text


def test_a_stream_has_no_time_to_answer(tmp_path: Path) -> None:
    """It lasts as long as a page is open; it is counted."""

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def never(snapshot: Snapshot) -> Answerer:
        raise AssertionError(snapshot)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    metrics = ServerMetrics(Swapper(tmp_path, "latest", never), UserStates(0), tmp_path, lambda *_: None)
    asyncio.run(metrics.middleware(streams)({"type": "http", "method": "GET"}, receive, send))
    text = generate_latest(metrics.registry).decode()
    assert 'hstu_requests_total{method="GET",path="other",status="200"} 1.0' in text
    assert "hstu_request_seconds_count" not in text


@pytest.mark.parametrize("mib", [0.0, 1.0])
def test_looks_for_users_states_are_counted(tmp_path: Path, mib: float) -> None:
    """The rate of hits is that of one result among all; with no memory for states none is looked for."""
    write_model(tmp_path / "snapshots" / "silu")
    users = Memory({"ada": tokens_of(*(f"i{i % 9} click" for i in range(30)))})
    with serving(tmp_path, users, ServeSettings(user_state_mib=mib)) as client:
        for _ in range(3):
            client.get("/rank?user=ada&items=i1,i2")
        values = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if "user_state" in line)
    found = [float(values[f'hstu_user_states_total{{result="{result}"}}']) for result in ("hit", "extended", "miss")]
    assert found == ([2, 0, 1] if mib else [0, 0, 0])
    assert (float(values["hstu_user_state_bytes"]) > 0) == bool(mib)
