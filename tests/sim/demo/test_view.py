"""The live view of the demo: what it shows of the metrics, and that nothing is shown before anything was tested."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from model.dashboard.scrape import Scrape
from sim.demo.view import View

WORKER = "# TYPE hstu_events counter\nhstu_events_total 1200\nhstu_lag 7\n"
TRAINER = """\
# TYPE hstu_tested_targets counter
hstu_tested_targets_total 900
hstu_items 40
hstu_hr{k="10",scorer="hstu",scope="total"} 0.25
hstu_hr{k="10",scorer="hstu",scope="window"} 0.5
hstu_hr{k="50",scorer="hstu",scope="total"} 0.75
hstu_hr{k="10",scorer="popularity",scope="total"} 0.125
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Serve TRAINER as metrics."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TRAINER.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def printed(view: View) -> list[list[str]]:
    console = Console(width=100, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view.table())
    return [line.split() for line in captured.get().splitlines()]


def test_figures_that_do_not_exist_are_dashes() -> None:
    """Before the first target is tested, a hit rate of 0.0000 would be a lie."""
    view = View(1, {"silu": 2})
    assert "0.0000" not in view.line()
    assert "worker – events, –/s, lag – messages" in view.line()
    assert view.line().endswith("The trainers load and compile; on a machine that is new to them that takes minutes.")
    assert any(row[:5] == ["The", "trainers", "load", "and", "compile;"] for row in printed(view))
    assert "silu – targets, – items, HR@10 – (stack –, popularity –, last_items –)" in view.line()
    view.seen["silu"] = Scrape(TRAINER)
    assert "load and compile" not in view.line()
    assert "silu 900 targets, 40 items, HR@10 0.2500 (stack –, popularity 0.1250, last_items –)" in view.line()


def test_it_shows_what_the_processes_offer(port: int) -> None:
    """A process that does not answer (here the worker) keeps its last numbers."""
    view = View(1, {"silu": port})
    view.seen["worker"] = Scrape(WORKER)
    view.look()
    assert "worker 1,200 events" in view.headline()
    rows = printed(view)
    assert ["│", "hstu,", "silu", "│", "900", "│", "40", "│", "–", "│", "–", "│", "0.2500", "│", "0.5000", "│"] in rows
    assert [row[1] for row in rows if row[-2:] == ["–", "│"]] == ["stack", "popularity", "last_items"]


def test_baselines_are_of_the_trainer_ahead() -> None:
    """Two trainers of one log test the same targets, but not at the same time."""
    view = View(1, {"silu": 2, "softmax": 3})
    view.seen["silu"] = Scrape(TRAINER)
    view.seen["softmax"] = Scrape(TRAINER.replace(" 900", " 1800").replace("0.125", "0.375"))
    (popularity,) = [row for row in printed(view) if "popularity" in row]
    assert "0.3750" in popularity
