"""`hstu demo`: the main job on this machine, with real input and a real Kafka.

    1. a new directory, a Kafka node in it, topics
    2. a worker, two trainers (SiLU and softmax attention, the same examples), a server
    3. MovieLens-small is replayed; the live view follows until both trainers have learnt all of it
    4. the server is asked for one user's top 10; the first snapshot is asked the same
    5. everything is stopped; the directory stays

Nothing outlives it: children are on a leash (processes.py), Ctrl-C at any moment ends with step 5.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sim.demo.processes import Child, stop_all
from sim.demo.view import View, fetch
from sim.errors import SimError
from stream.local_broker.node import free_port, running_broker, signals_as_interrupts

TRAINERS: Final = ("silu", "softmax")
_TOML: Final = """\
# Written by `hstu demo`. Ask more with: hstu --config {path} query topk --user 42
data_dir = "{data_dir}"

[stream]
example_tokens = 64
future_s = 0          # a replayed log: its heartbeats, not clocks, say how far time has come
idle_timeout_s = 0

[model]
max_len = 64

[train]
idle_timeout_s = 0
snapshot_s = 5
keep_snapshots = 1000
"""
_LIMIT_S: Final = 900.0
_LINE_S: Final = 5.0  # between lines where no live table can be drawn


class Demo:
    """One run of the demo.

    Args:
        directory: of everything it writes; made.
        user: who is asked for.
        limit: rows of the log at most; None: all.
        console: where it prints.
    """

    def __init__(self, directory: Path, user: str, limit: int | None, console: Console) -> None:
        self._directory, self._user, self._limit, self._console = directory, user, limit, console
        self._config = directory / "hstu.toml"
        self._children: list[Child] = []
        self._started_s = time.monotonic()
        self._port = free_port()

    def run(self) -> None:
        """Do it all.

        Raises:
            SimError: a process has failed; its log is named.
        """
        self._directory.mkdir(parents=True)
        self._config.write_text(_TOML.format(path=self._config, data_dir=self._directory / "data"))
        try:
            self._say(f"Everything is written to {self._directory}.")
            with signals_as_interrupts(), running_broker(self._directory / "broker") as bootstrap:
                try:
                    self._say(f"Kafka is ready on {bootstrap}.")
                    self._watch(self._start(bootstrap))
                    self._ask()
                finally:
                    stop_all(self._children)
        finally:
            self._say(f"{time.monotonic() - self._started_s:.0f} s in all; data and logs stay in {self._directory}.")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _child(self, name: str, *arguments: str, **environment: str) -> Child:
        child = Child(name, ["--config", str(self._config), *arguments], self._directory / "logs", environment)
        self._children.append(child)
        return child

    def _start(self, bootstrap: str) -> View:
        kafka = {"HSTU_BOOTSTRAP": bootstrap}
        topics = self._child("topics", "topics", "create", **kafka)
        if topics.wait(60):
            topics.check()
        worker, ports = free_port(), {name: free_port() for name in TRAINERS}
        limit = ["--limit", str(self._limit)] if self._limit else []
        self._child("worker", "worker", HSTU_STREAM__METRICS_PORT=str(worker), **kafka)
        self._child("replay", "replay", "--dataset", "movielens", "--shuffle-ties", "1", *limit, **kafka)
        for name, port in ports.items():
            arguments = ("train", "--name", name, "--attention", name, "--until-end", "--quiet")
            self._child(f"train-{name}", *arguments, HSTU_TRAIN__METRICS_PORT=str(port), **kafka)
        self._child("serve", "serve", "--name", TRAINERS[0], "--port", str(self._port))
        self._say(
            f"A worker, two trainers and a server (http://127.0.0.1:{self._port}/docs) start; MovieLens is replayed."
        )
        return View(worker, ports)

    def _watch(self, view: View) -> None:
        """Show how it goes until both trainers have ended."""
        trainers = [child for child in self._children if child.name.startswith("train-")]
        drawn = self._console.is_terminal
        said_s = time.monotonic()
        with (
            Live(view.table(), console=self._console, auto_refresh=False, transient=False)
            if drawn
            else _nothing() as live
        ):
            while any(trainer.running() for trainer in trainers):
                for child in self._children:
                    child.check()
                if time.monotonic() - self._started_s > _LIMIT_S:
                    raise SimError(
                        f"The demo has not ended within {_LIMIT_S:g} s; its logs are in {self._directory / 'logs'}."
                    )
                view.look()
                if live:
                    live.update(view.table(), refresh=True)
                elif time.monotonic() - said_s >= _LINE_S:
                    said_s = time.monotonic()
                    self._say(view.line())
                time.sleep(0.5)
        for trainer in trainers:
            trainer.check()

    def _ask(self) -> None:
        """Print the final metrics, then one user's top 10 and how it has changed since the first snapshot."""
        listed = json.loads(self._query("list", "snapshots", "list", "--name", TRAINERS[0], "--json"))
        ids = sorted(snapshot["id"] for snapshot in listed)
        first, last = ids[0], ids[-1]
        self._final_table()
        deadline = time.monotonic() + 30
        while (answer := self._from_server())["snapshot"]["id"] != last:
            if time.monotonic() > deadline:
                raise SimError(
                    f"The server has not taken up snapshot {last} within 30 s; see {self._directory / 'logs'}."
                )
            time.sleep(0.2)
        earlier = json.loads(self._query("first", "query", "topk", "--user", self._user, "--alias", first, "--json"))
        self._console.print(_change(answer, earlier))

    def _query(self, name: str, *arguments: str) -> str:
        """Give what a verb prints."""
        child = self._child(name, *arguments)
        if child.wait(60):
            child.check()
        return child.log.read_text()

    def _from_server(self) -> dict[str, Any]:
        text = fetch(f"http://127.0.0.1:{self._port}/topk?user={self._user}&k=10", timeout_s=10)
        if not text:
            raise SimError(
                f"The server does not answer on port {self._port}; see {self._directory / 'logs' / 'serve.log'}."
            )
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _final_table(self) -> None:
        table = Table(title="Every target tested before it was learnt, over all live items", title_justify="left")
        for column in ("scorer", "targets", "HR@10", "HR@50", "NDCG@10", "MRR"):
            table.add_column(column, justify="left" if column == "scorer" else "right")
        for name in TRAINERS:
            shown = json.loads(self._query(f"show-{name}", "snapshots", "show", "--name", name, "--json"))
            for scorer, scopes in shown["metrics"]["retrieval"].items():
                if scorer == "hstu" or name == TRAINERS[0]:
                    table.add_row(
                        f"{scorer}, {name}" if scorer == "hstu" else scorer, *_figures(scopes["total"]["all"])
                    )
        self._console.print(table)


def _figures(figures: Mapping[str, Any]) -> list[str]:
    names = ("hr@10", "hr@50", "ndcg@10", "mrr")
    return [f"{figures['targets']:,}", *(f"{figures[name] or 0:.4f}" for name in names)]


def _change(answer: Mapping[str, Any], earlier: Mapping[str, Any]) -> Table:
    """Draw an answer beside what an earlier snapshot says for the same sequence."""
    now, then = answer["snapshot"], earlier["snapshot"]
    title = (
        f"Top 10 for user {answer['user']} by snapshot {now['id']} (step {now['step']:,}); before: by the first, "
        f"{then['id']} (step {then['step']:,})"
    )
    table = Table(title=title, title_justify="left")
    for column in ("", "title", "score", "before"):
        table.add_column(column, justify="left" if column == "title" else "right")
    places = {item["item_id"]: place for place, item in enumerate(earlier["items"], 1)}
    for place, item in enumerate(answer["items"], 1):
        before = places.get(item["item_id"])
        table.add_row(
            str(place), item["title"] or item["item_id"], f"{item['score']:.2f}", str(before) if before else "new"
        )
    return table


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def run_demo(parent: Path, user: str, limit: int | None) -> None:
    """Run the demo in a new directory of `parent`, named after the time."""
    name = time.strftime("hstu-demo-%Y%m%d-%H%M%S")
    directory = parent / (name if not (parent / name).exists() else f"{name}-{os.getpid()}")
    Demo(directory.resolve(), user, limit, Console()).run()
