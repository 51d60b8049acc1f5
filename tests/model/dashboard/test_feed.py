"""What the page says of its connection, and what it asks again, in headless Chromium."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.serving.http import dashboard
from model.storage.delta_log import DeltaLog
from model.storage.snapshot import load_snapshot
from tests.dashboard import browser, needs_chromium
from tests.http_server import serving
from tests.served import SETTINGS, model_arrays, write_model
from tests.snapshots import some_manifest

pytestmark = [needs_chromium, pytest.mark.slow]
READ = "return document.querySelector(arguments[0])?.textContent ?? ''"
DELAYED = """
    const send = window.fetch;
    window.fetch = (url, options) => String(url).includes(arguments[0])
        ? new Promise((resolve) => setTimeout(() => resolve(send(url, options)), 2000)) : send(url, options);
"""


def until(true: Callable[[], Any], what: str) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + 60
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """Yield a client of a server with one snapshot, which sends to one page alone, five times a second."""
    monkeypatch.setattr(dashboard, "EVERY_S", 0.2)
    monkeypatch.setattr(dashboard, "WATCHERS", 1)
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path) as client:
        yield client


def test_a_page_too_many_says_so(client: httpx.Client) -> None:
    """For as long as it waits; the page that has gone makes room."""
    with client.stream("GET", "/dashboard/stream") as first, browser() as driver:
        lines = first.iter_lines()
        next(lines)
        driver.get(str(client.base_url))
        until(lambda: driver.execute_script(READ, "#state") != "connecting", "nothing is said")
        for _ in range(20):
            assert driver.execute_script(READ, "#state") == "1 pages watch already; this one tries again"
            time.sleep(0.1)
        first.close()
        until(lambda: driver.execute_script(READ, "#state") == "live, every 2 s", "it does not try again")


def test_a_server_that_hangs_is_not_live(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stays open, and nothing comes; later it goes on."""
    with browser() as driver:
        driver.get(str(client.base_url))
        until(lambda: driver.execute_script(READ, "#state") == "live, every 2 s", "it is not live")
        monkeypatch.setattr(dashboard, "EVERY_S", 30.0)
        until(lambda: "no connection" in driver.execute_script(READ, "#state"), "it is said to be live")
        monkeypatch.setattr(dashboard, "EVERY_S", 0.2)
        until(lambda: driver.execute_script(READ, "#state") == "live, every 2 s", "it does not try again")


def test_the_last_question_is_the_one_that_is_answered(client: httpx.Client) -> None:
    """An answer to one before it may come later, and is dropped."""
    with browser() as driver:
        driver.get(str(client.base_url))
        driver.execute_script(DELAYED, "ada")
        for user in ("ada", "new"):
            box = driver.find_element("id", "user")
            box.clear()
            box.send_keys(user + "\n")
            assert driver.execute_script(READ, "#ask-note").startswith(("Asking for", "User new"))
        until(lambda: "User new" in driver.execute_script(READ, "#ask-note"), "no answer came")
        time.sleep(3)
        assert "User new" in driver.execute_script(READ, "#ask-note")


def test_a_page_that_came_before_the_first_snapshot_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says its address long before there is an answer; a beginning is no error."""
    monkeypatch.setattr(dashboard, "EVERY_S", 0.2)
    with serving(tmp_path) as client, browser() as driver:
        driver.get(f"{client.base_url}/?user=ada")
        until(lambda: "No snapshot is loaded yet" in driver.execute_script(READ, "#ask-note"), "nothing is said")
        until(lambda: "No snapshot answers yet" in driver.execute_script(READ, "#serving"), "nothing is said")
        assert driver.find_elements("css selector", "#serving .bad") == []
        write_model(tmp_path / "snapshots" / "silu")
        until(lambda: "The score" in driver.execute_script(READ, "#answer"), "no answer came")


def test_deltas_answer_for_the_snapshot_they_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is in no folder: the snapshot before it is marked, and compared with others."""
    monkeypatch.setattr(dashboard, "EVERY_S", 0.2)
    directory, arrays = tmp_path / "snapshots" / "silu", model_arrays()
    write_model(directory, 1)
    root = write_model(directory, 2, arrays=arrays)
    log = DeltaLog(directory, 0.0)
    snapshot = load_snapshot(root)
    log.begin(root.name, snapshot.arrays, snapshot.manifest)
    moved = {name: array.copy() for name, array in snapshot.arrays.items()}
    moved["items.weight"][1] += 1
    with serving(tmp_path) as client, browser() as driver:
        until(lambda: client.get("/snapshot").json().get("id") == root.name, "it does not answer")
        log.append(moved, some_manifest(3, settings={"model": SETTINGS.model_dump(mode="json")}))
        until(lambda: client.get("/snapshot").json()["id"] != root.name, "the delta is not followed")
        driver.get(str(client.base_url))
        until(lambda: "answers, with deltas" in driver.execute_script(READ, "#snapshot-table"), "nothing is marked")
        assert f"by deltas after {root.name}" in driver.execute_script(READ, "#serving")
        driver.execute_script("document.querySelector('#snapshot-table [aria-label^=Compare]').click()")
        until(lambda: driver.execute_script("return document.querySelector('#diff-dialog').open"), "no answer came")
        assert f"From {root.name}" in driver.execute_script(READ, "#diff-dialog")


def test_a_token_that_no_header_can_hold_is_not_taken(tmp_path: Path) -> None:
    """A browser would refuse to send it, for ever; the dialog stays until there is another one."""
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path, token="0123456789abcdef") as client, browser() as driver:
        driver.get(str(client.base_url))
        is_open = "return document.querySelector('#token-dialog').open"
        until(lambda: driver.execute_script(is_open), "no token is asked for")
        box = driver.find_element("id", "token")
        box.send_keys("€\n")
        time.sleep(1)
        assert driver.execute_script(is_open)
        box.clear()
        box.send_keys("0123456789abcdef\n")
        until(lambda: driver.execute_script(READ, "#state") == "live, every 2 s", "it does not connect")
