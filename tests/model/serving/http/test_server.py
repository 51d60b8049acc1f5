"""The process: where it listens, what it refuses, how it ends."""

import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.config import ServeSettings
from model.errors import ModelError
from model.serving.http.server import listen, raise_file_limit, run_server
from tests.served import Memory, write_model

ROOT = Path(__file__).parents[4]
GREETING = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I Answers of silu/latest: "
    r"(http://127.0.0.1:\d+) \(dashboard at /; /docs, /ready\)\n"
)
SERVE = """
import json, resource, sys, time
from pathlib import Path
from served import Memory, tokens_of
from model.config import ServeSettings
from model.serving.http.server import run_server

class Slow(Memory):
    def tokens(self, user, last):
        time.sleep(1 if user == "slow" else 0)
        return super().tokens(user, last)

files = int(sys.argv[3])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
run_server(ServeSettings(port=0, **json.loads(sys.argv[2])), Path(sys.argv[1]), Slow({"ada": tokens_of("i1 click")}))
print("down", flush=True)
"""


@contextmanager
def server(data_dir: Path, settings: str = "{}", files: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server in its own process, and yield it and its address once the first line of its log has told that."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(data_dir), settings, str(files)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        yield process, next(found[1] for line in lines if (found := GREETING.fullmatch(line)))
    finally:
        process.kill()
        process.communicate()


def test_small_answers_leave_at_once() -> None:
    """Nagle's algorithm is off on every connection; with it, each answer on a kept connection takes 40 ms more."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_server_says_where_it_is_and_ends_cleanly(number: int, tmp_path: Path) -> None:
    """On loopback, at the port that its log names; a signal ends it with code 0 once running requests are answered."""
    write_model(tmp_path / "snapshots" / "silu")
    with server(tmp_path) as (process, url), ThreadPoolExecutor() as pool:
        assert httpx.get(url + "/topk?user=ada").json()["source"] == "model"
        slow = pool.submit(httpx.get, url + "/topk?user=slow")
        time.sleep(0.3)
        process.send_signal(number)
        assert slow.result().status_code == 200
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "down\n", "")


def test_clients_beyond_the_limit_of_files_leave_it_well(tmp_path: Path) -> None:
    """300 connections that say nothing, to a process that may open 200 files: others are answered, the log is short."""
    write_model(tmp_path / "snapshots" / "silu")
    with server(tmp_path, '{"connections": 32}', files=200) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
        try:
            for _ in range(5):
                assert httpx.get(url + "/health", timeout=5).status_code == 200
                assert httpx.get(url + "/topk?user=ada", timeout=5).status_code == 200
        finally:
            for one in idle:
                one.close()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert err.count("\n") <= 3
    assert "Traceback" not in err


def test_a_server_that_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    """It refuses to start, and says how to give one."""
    with pytest.raises(ModelError, match=r"0\.0\.0\.0 can be reached from other machines: .*HSTU_SERVE__TOKEN"):
        run_server(ServeSettings(host="0.0.0.0", port=0), tmp_path, Memory())


def test_an_address_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    """The sentence names it and the flags that change it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ModelError, match=rf"Cannot listen on 127.0.0.1:{port}: .*--host and --port"):
            run_server(ServeSettings(port=port), tmp_path, Memory())


def test_too_few_files_are_refused_before_they_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes what it may have; where that is less than two a connection, it says so."""
    set_to: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    raise_file_limit(500)
    assert set_to == [(1000, 1000)]
    with pytest.raises(ModelError, match=r"501 connections \(serve.connections\) want 1002 open files, .* 1000;"):
        raise_file_limit(501)
