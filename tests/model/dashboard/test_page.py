"""The page in headless Chromium: it loads, follows its server, says why, and is usable by everyone."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from model.arrays.state import prefixed, under
from model.data.catalogue import Catalogue, ItemRecord
from model.storage.aliases import move
from stream.example import id_key
from stream.metrics_server import Health, serve_metrics
from tests.dashboard import browser, line, needs_chromium, write_lines
from tests.http_server import SETTINGS, serving
from tests.served import HISTORY, Memory, model_arrays, write_model

pytestmark = needs_chromium
SPILLS = """
    const nodes = [...document.querySelectorAll(".answer *, .tile *, .legend *, header *")];
    const isWide = (node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline";
    return nodes.filter(isWide).map((node) => node.outerHTML.slice(0, 90));
"""
READ = "return document.querySelector(arguments[0])?.textContent ?? ''"


def until(true: Callable[[], Any], what: str) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + 60
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a server with two trainers' windows and two snapshots."""
    monkeypatch.setattr("model.serving.http.dashboard.EVERY_S", 0.2)
    monkeypatch.setattr("model.dashboard.overview._FRESH_S", 0.1)
    for step in (1, 2):
        metrics = {"retrieval": line("silu", 1)["retrieval"]}
        write_model(tmp_path / "snapshots" / "silu", step, metrics=metrics)
    for name in ("silu", "softmax"):
        write_lines(tmp_path, name, *(line(name, window) for window in (1, 2, 3)))
    with serving(tmp_path) as client:
        yield str(client.base_url)


def serious(driver: Any) -> list[str]:
    """Return axe's serious and critical findings, and which elements they are about."""
    axe = pytest.importorskip("axe_selenium_python").Axe(driver)
    axe.inject()
    return [
        f"{one['id']}: {[node['html'][:160] for node in one['nodes']][:3]}"
        for one in axe.run()["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_it_shows_what_is_there_and_what_comes(address: str, tmp_path: Path) -> None:
    """Figures, a new window while it is open, an answer with its reasons; no error in the console, none by axe."""
    with browser() as driver:
        driver.get(f"{address}/?user=ada")

        def read(where: str) -> str:
            return str(driver.execute_script(READ, where))

        until(lambda: "silu" in read("#figures") and "softmax" in read("#legend"), "no figures came")
        assert "HR@10, silu0.250 ± 0.027" in read("#figures")
        assert read("#state") == "live, every 2 s"
        assert "0.050 above the best counter" in read("#figures")
        until(lambda: "The score" in read("#answer"), "no reasons came")
        assert "Without this event" in read("#answer")
        alarm = {"signal": "misses", "targets": 3800, "event_ms": 1_700_000_000_000, "value": 0.9}
        write_lines(
            tmp_path,
            "silu",
            line("silu", 4, share=0.75) | {"drift": [alarm], "drift_recovering": True, "test_share": 0.125},
        )
        until(lambda: "HR@10, silu0.750" in read("#figures"), "the new window is not shown")
        assert "misses of silu at target 3,800, 2023-11-14 22:13 UTC. silu has not recovered yet." in read("#drift")
        assert read("#curve-caption") == "HR@10, items of all ages; 12.5% of the targets are tested"
        assert len(driver.find_elements("css selector", "#curve .drift")) == 1
        assert "silu less softmax" in read("#gap-caption")
        assert "answers" in read("#snapshot-table")
        assert "Made (UTC)" in read("#snapshot-table")
        assert "2023-11-14 22:13:20" in read("#snapshot-table")
        assert "History, newest first (UTC)2023-11-14 22:12" in read("#answer")
        assert serious(driver) == []
        assert [message for message in driver.get_log("browser") if message["level"] == "SEVERE"] == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read(address: str, width: int, dark: bool) -> None:
    """Nothing is wider than the page, and contrasts and names satisfy axe, at both widths, light and dark."""
    with browser(width, dark=dark) as driver:
        driver.get(f"{address}/?user=ada")
        until(lambda: "The score" in driver.execute_script(READ, "#answer"), "no answer came")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert serious(driver) == []


@pytest.mark.slow
def test_trainers_that_are_not_equally_far(address: str, tmp_path: Path) -> None:
    """Each beside the counters of its own window; counts and items of the one ahead; gone with its folder."""
    write_lines(tmp_path, "softmax", line("softmax", 4, share=0.75))
    with browser() as driver:
        driver.get(address)

        def read(where: str) -> str:
            return str(driver.execute_script(READ, where))

        until(lambda: "HR@10, softmax0.750" in read("#figures"), "no figures came")
        assert "silu0.250 ± 0.0270.050 above the best counter" in read("#figures")
        assert "softmax0.750 ± 0.0270.150 above the best counter" in read("#figures")
        assert "Best counter0.600 ± 0.030" in read("#figures")
        assert "in the window of softmax" in read("#figures")
        assert "by softmax: 24 items known" in read("#items-caption")
        assert read("#cursor-text") == (
            "Windows up to target 3,000 of silu and 4,000 of softmax; the counts are those of softmax"
        )
        cursor = driver.find_element("id", "cursor")
        for place, said in ((2, "target 3,000,"), (0, "target 1,000,"), (3, "4,000 of softmax")):
            move = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
            driver.execute_script(move, cursor, place)
            until(lambda said=said: said in read("#cursor-text"), f"the cursor is not at {said}")
        shutil.rmtree(tmp_path / "train" / "softmax")
        until(lambda: "softmax" not in read("#legend"), "what is deleted is still shown")
        assert read("#gap").startswith("There is one trainer.")
        shutil.rmtree(tmp_path / "train")
        until(lambda: read("#gap") == "No trainer has tested a target yet.", "what is deleted is still shown")
        assert [message for message in driver.get_log("browser") if message["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_long_words_are_broken(tmp_path: Path) -> None:
    """Titles, users and names without a space make nothing wider than the page."""
    word = "w" * 300
    arrays = model_arrays()
    catalogue = Catalogue.from_state(under("catalogue.", arrays))
    for item in range(20):
        catalogue.apply(ItemRecord(id_key(f"i{item}"), f"i{item}", word, {}, 0))
    arrays |= prefixed("catalogue.", catalogue.state())
    path = write_model(tmp_path / "snapshots" / "silu", arrays=arrays)
    move(path.parent, word[:64], path.name)
    write_lines(tmp_path, word[:64], line("silu", 1))
    with serving(tmp_path, Memory({word[:250]: HISTORY})) as client, browser() as driver:
        for width in (1280, 390):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(f"{client.base_url}/?user={word[:250]}")
            until(lambda: "The score" in driver.execute_script(READ, "#answer"), "no answer came")
            until(lambda: word[:64] in driver.execute_script(READ, "#legend"), "no window came")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert driver.execute_script(SPILLS) == []


@pytest.mark.slow
def test_what_waits_in_a_trainer_is_not_learned(tmp_path: Path) -> None:
    """A trainer reads a backlog at once; its examples are as far from being learned as those in Kafka."""
    metrics, of_worker = CollectorRegistry(), CollectorRegistry()
    Counter("hstu_events", "", registry=of_worker)
    Counter("hstu_examples", "", registry=of_worker).inc(1638)
    Gauge("hstu_lag", "", registry=of_worker)
    Gauge("hstu_partitions", "", registry=of_worker).set(2)
    open_partitions = Gauge("hstu_open_partitions", "", registry=of_worker)
    open_partitions.set(2)
    Counter("hstu_steps", "", ["trainer"], registry=metrics).labels("silu").inc()
    Counter("hstu_learned_examples", "", registry=metrics)
    Gauge("hstu_lag_records", "", registry=metrics).set(7)
    Gauge("hstu_waiting_records", "", registry=metrics).set(1631)
    with ExitStack() as stack:
        watch = []
        for registry in (metrics, of_worker):
            port, stop = serve_metrics(registry, "127.0.0.1", 0, Health(), "a setting")
            stack.callback(stop)
            watch.append(f"127.0.0.1:{port}")
        settings = SETTINGS.model_copy(update={"watch": tuple(watch)})
        with serving(tmp_path, settings=settings) as client, browser() as driver:
            driver.get(str(client.base_url))
            until(lambda: "trainer silu" in driver.execute_script(READ, "#processes"), "no trainer came")
            assert "1.6k" in driver.execute_script(READ, "#processes")
            assert "1,638 examples not yet learned" in driver.execute_script(READ, "#figures")
            until(lambda: "learned: over " in driver.execute_script(READ, "#figures"), "how late they are is not said")
            open_partitions.set(1)
            said = "1 of 2 partitions are open at no worker that answers"
            until(lambda: driver.execute_script(READ, "#figures").count(said) == 3, "it is not said who reads nothing")
            assert f"Event to answer–{said}" in driver.execute_script(READ, "#figures")


@pytest.mark.slow
def test_a_server_that_is_gone_is_said(address: str) -> None:
    """In a sentence of ours, not in the browser's."""
    with browser() as driver:
        driver.get(address)
        until(lambda: driver.execute_script(READ, "#cursor-text"), "no window came")
        cut = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", cut)
        driver.find_element("id", "user").send_keys("ada\n")
        until(lambda: "The server does not answer." in driver.execute_script(READ, "#ask-note"), "nothing is said")


@pytest.mark.slow
def test_it_is_used_by_keyboard(address: str, tmp_path: Path) -> None:
    """Tab reaches the controls; the cursor moves by arrow keys; an alias is moved by Enter and a dialog."""
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    with browser() as driver:
        driver.get(address)
        until(lambda: driver.execute_script(READ, "#cursor-text"), "no window came")
        cursor = driver.find_element("id", "cursor")
        cursor.send_keys(keys.ARROW_LEFT)
        until(lambda: "target 2,000" in driver.execute_script(READ, "#cursor-text"), "the cursor did not move")
        driver.find_element("css selector", "#legend button").send_keys(keys.ENTER)
        until(lambda: driver.execute_script(READ, "#legend [aria-pressed=false]") != "", "nothing was hidden")
        driver.find_element("css selector", "#snapshot-table button").send_keys(keys.ENTER)
        driver.find_element("id", "move-yes").send_keys(keys.ENTER)
        until(lambda: "now names 00000001" in driver.execute_script(READ, "#snapshots-note"), "no alias was moved")
        alias = tmp_path / "snapshots" / "silu" / "aliases" / "latest"
        assert alias.read_text().startswith("00000001")


@pytest.mark.slow
def test_snapshots_are_compared(address: str) -> None:
    """With the one that answers: the churn of the users there are, births, metrics; told in a dialog that axe likes."""
    with browser() as driver:
        driver.get(address)
        compare = "return document.querySelector('#snapshot-table [aria-label^=Compare]')"
        button = until(lambda: driver.execute_script(compare), "there is no button")
        driver.execute_script("arguments[0].click()", button)  # charts that are drawn meanwhile would move it away
        until(lambda: driver.execute_script("return document.querySelector('#diff-dialog').open"), "no answer came")
        said = driver.execute_script(READ, "#diff-dialog")
        assert "From 00000002" in said
        assert "to 00000001" in said
        assert "Top 10 of 2 users with their events up to 2023-11-14 22:12 UTC" in said
        assert "0 items born.0 items died." in said
        assert "HR@10, hstu0.2500.2500" in said
        assert serious(driver) == []
        narrow = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
        edge = "return document.querySelector('#diff-dialog').getBoundingClientRect().right"
        until(lambda: driver.execute_script(edge) <= 390, "the dialog is wider than the page")


@pytest.mark.slow
def test_texts_are_never_markup(address: str, tmp_path: Path) -> None:
    """A trainer's name, as anything that a stranger may have chosen, is shown as it is written."""
    evil = "<img src=x onerror=document.title='taken'>"
    write_lines(tmp_path, "zz", *(json.loads(json.dumps(line("zz", window))) for window in (1, 2)))
    (tmp_path / "train" / "zz").rename(tmp_path / "train" / evil.replace("/", ""))
    with browser() as driver:
        driver.get(address)
        until(lambda: evil in driver.execute_script(READ, "#legend"), "its name is not shown")
        assert driver.title == "hstu-stream"
