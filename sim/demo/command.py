"""`hstu demo`: the main job on this machine, with a real data set and a real Kafka.

    1. make a new directory, start a Kafka node in it, create the topics
    2. start a worker, two trainers (SiLU and softmax attention on the same examples) and a server
    3. replay MovieLens-small; the live view follows until both trainers have learned all of it
    4. ask the server for one user's top 10, and the first snapshot for the same
    5. with --stay: leave the dashboard up until Ctrl-C
    6. stop everything; the directory stays, and the commands to go on are printed

No process outlives the demo: each child dies with its parent (processes.py), and Ctrl-C at any moment goes to step 6.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.live import Live
from rich.table import Table

from model.dashboard.scrape import fetch_text
from model.evaluation.metrics import METRICS
from sim.demo.processes import Child, stop_all
from sim.demo.view import BASELINES, View, figure
from sim.errors import SimError
from sim.sources.datasets import load_dataset
from sim.sources.open_log import log_settings
from stream.local_broker.node import free_port, running_broker, signals_as_interrupts

TRAINERS: Final = ("silu", "softmax")
_TOML: Final = """\
# Written by `hstu demo`. Ask more with: hstu --config {path} query topk --user 42
data_dir = "{data_dir}"

[stream]
example_tokens = 64

[model]
max_len = 64

[train]
replay_every = 0  # the profile "fast" of docs/performance.md; without it hits are more, and time is twice as much
window_targets = 2000  # a point of the charts for each
snapshot_s = 5
keep_snapshots = 1000
"""
_USER: Final = "547"  # of whom the top 10 is shown; has the most rows of all
_LIMIT_S: Final = 1800.0  # until both trainers have ended
_STEP_S: Final = 600.0  # for each verb and for the server's answer: the first one on a machine compiles
_LINE_S: Final = 5.0  # between lines where no live table can be drawn
_GO_ON: Final = """\
Kafka, the worker, the trainers and the server have stopped. Ask what is on disk:
  hstu --config {path} query topk --user {user}
  hstu --config {path} query explain --user {user} --items {item}
  hstu --config {path} snapshots list
  hstu --config {path} serve      # and the dashboard at http://127.0.0.1:8000/?user={user}"""


class Demo:
    """One run of the demo.

    Args:
        directory: The new directory of everything that it writes.
        user: The user whose top 10 is shown.
        limit: Rows of the log at most; None means all.
        console: Where it prints.
        stay: Whether everything stays up until Ctrl-C.
    """

    def __init__(self, directory: Path, user: str, limit: int | None, console: Console, *, stay: bool = False) -> None:
        self._stay = stay
        self._directory, self._user, self._limit, self._console = directory, user, limit, console
        self._config = directory / "hstu.toml"
        self._children: list[Child] = []
        self._started_s = time.monotonic()
        self._port = free_port()
        self._best = "1"  # until the user is answered

    def run(self) -> None:
        """Run all steps.

        Raises:
            SimError: A process has failed; the error names its log.
        """
        self._directory.mkdir(parents=True)
        self._config.write_text(_TOML.format(path=self._config, data_dir=self._directory / "data"))
        how = "Stopped after"
        try:
            self._say(f"Everything is written to {self._directory}.")
            with signals_as_interrupts(), running_broker(self._directory / "broker") as bootstrap:
                try:
                    self._say(f"Kafka is ready on {bootstrap}.")
                    self._show(self._start(bootstrap))
                    if self._stay:
                        self._wait()
                finally:
                    stop_all(self._children)
            self._say(_GO_ON.format(path=self._config, user=self._user, item=self._best))
            how = "Done in"
        finally:
            elapsed_s = time.monotonic() - self._started_s
            self._say(f"{how} {elapsed_s:.0f} s; data and logs stay in {self._directory}.")

    def _show(self, view: View) -> None:
        """Follow the trainers, then ask. With --stay nothing is torn down since it takes longer than it should.

        Raises:
            SimError: A process has failed; without --stay also: something has taken too long.
        """
        try:
            self._watch(view)
            self._ask()
        except SimError as error:
            self._check_children()
            if not self._stay:
                raise
            self._say(f"{error} Everything goes on.")

    def _wait(self) -> None:
        """Leave the server, the worker and Kafka up until Ctrl-C."""
        self._say(f"All of it stays up until Ctrl-C: the dashboard at {self._address}")
        with suppress(KeyboardInterrupt):
            while True:
                self._check_children()
                time.sleep(0.5)

    @property
    def _address(self) -> str:
        """Where the dashboard is, with the user filled in."""
        return f"http://127.0.0.1:{self._port}/?user={quote(self._user, safe='')}"

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _child(self, name: str, *arguments: str, **environment: str) -> Child:
        child = Child(name, ["--config", str(self._config), *arguments], self._directory / "logs", environment)
        self._children.append(child)
        return child

    def _start(self, bootstrap: str) -> View:
        kafka = {"HSTU_BOOTSTRAP": bootstrap}
        topics = self._child("topics", "topics", "create", **kafka)
        if topics.wait(_STEP_S):
            topics.check()
        worker, ports = free_port(), {name: free_port() for name in TRAINERS}
        limit = ["--limit", str(self._limit)] if self._limit else []
        self._child("worker", "worker", HSTU_STREAM__METRICS_PORT=str(worker), **kafka)
        self._child("replay", "replay", "--dataset", "movielens", "--shuffle-ties", "1", *limit, **kafka)
        for name, port in ports.items():
            arguments = ("train", "--name", name, "--attention", name, "--until-end", "--quiet")
            self._child(f"train-{name}", *arguments, HSTU_TRAIN__METRICS_PORT=str(port), **kafka)
        watch = ",".join(f"127.0.0.1:{port}" for port in (worker, *ports.values()))
        self._child(
            "serve", "serve", "--name", TRAINERS[0], "--port", str(self._port), HSTU_SERVE__WATCH=watch, **kafka
        )
        self._say("A worker, two trainers and a server start; MovieLens is replayed.")
        self._say(f"Watch it learn: {self._address}")
        return View(worker, ports)

    def _watch(self, view: View) -> None:
        """Show the live view until both trainers have ended; the final table then takes its place."""
        trainers = [child for child in self._children if child.name.startswith("train-")]
        printed_s = time.monotonic()
        with self._live(view) as live:
            while any(trainer.running() for trainer in trainers):
                self._check_children()
                if time.monotonic() - self._started_s > _LIMIT_S:
                    logs = self._directory / "logs"
                    raise SimError(f"The trainers have not ended within {_LIMIT_S:g} s; their logs are in {logs}.")
                view.look()
                if live:
                    live.update(view.table(), refresh=True)
                elif time.monotonic() - printed_s >= _LINE_S:
                    printed_s = time.monotonic()
                    self._say(view.line())
                time.sleep(0.5)
        for trainer in trainers:
            trainer.check()

    def _live(self, view: View) -> AbstractContextManager[Live | None]:
        if not self._console.is_terminal:
            return nullcontext()
        return Live(view.table(), console=self._console, auto_refresh=False, transient=True)

    def _check_children(self) -> None:
        for child in self._children:
            child.check()

    def _ask(self) -> None:
        """Print the final figures, and the user's top 10 by the last snapshot beside those of the first."""
        listed = json.loads(self._query("list", "snapshots", "list", "--name", TRAINERS[0], "--json"))
        ids = sorted(snapshot["id"] for snapshot in listed)
        first, last = ids[0], ids[-1]
        self._print_figures()
        self._say(f"The server answers by snapshot {last}; on a machine that is new to it, it compiles first.")
        url = f"http://127.0.0.1:{self._port}/topk?user={quote(self._user, safe='')}&k=10"
        response = answer_by(last, url, self._check_children, self._directory / "logs" / "serve.log")
        earlier = None
        if first != last:
            query = ("query", "topk", "--user", self._user, "--alias", first, "--json")
            earlier = json.loads(self._query("first", *query))
        self._console.print(top_k_table(response, earlier))
        if response["reason"]:
            self._say(f"By popularity: {response['reason']}.")
        self._best = response["items"][0]["item_id"] if response["items"] else self._best

    def _query(self, name: str, *arguments: str) -> str:
        """Return what a verb prints."""
        child = self._child(name, *arguments)
        if child.wait(_STEP_S):
            child.check()
        return child.log.read_text()

    def _print_figures(self) -> None:
        retrieval = {}
        for name in TRAINERS:
            shown = json.loads(self._query(f"show-{name}", "snapshots", "show", "--name", name, "--json"))
            retrieval[name] = {scorer: s["total"]["all"] for scorer, s in shown["metrics"]["retrieval"].items()}
        self._console.print(figures_table(retrieval))


def answer_by(snapshot_id: str, url: str, check: Callable[[], None], log: Path) -> dict[str, Any]:
    """Return a server's answer as soon as it is one by a snapshot; a server that is not ready yet is asked again.

    Args:
        snapshot_id: Of the snapshot.
        url: The question.
        check: Called before each question; raises where the server has ended.
        log: Of the server, for the error.

    Raises:
        SimError: There is no such answer within _STEP_S.
    """
    deadline = time.monotonic() + _STEP_S
    said = "no answer"
    while time.monotonic() < deadline:
        check()
        if text := fetch_text(url, timeout_s=10):
            response: dict[str, Any] = json.loads(text)
            if response["snapshot"]["id"] == snapshot_id:
                return response
            said = f"an answer by snapshot {response['snapshot']['id']}"
        time.sleep(0.2)
    raise SimError(
        f"The server has not answered by snapshot {snapshot_id} within {_STEP_S:g} s, but {said}; see {log}."
    )


def figures_table(retrieval: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Return the final table: the model of each trainer, then the baselines, which are the same in both.

    Args:
        retrieval: Trainer → scorer → figures over all targets.
    """
    table = Table(title="Every target tested before it was learned, over all live items", title_justify="left")
    for column in ("scorer", "targets", *(metric.title for metric in METRICS)):
        table.add_column(column, justify="left" if column == "scorer" else "right")
    rows = [(f"hstu, {trainer}", scorers["hstu"]) for trainer, scorers in retrieval.items()]
    rows += [(scorer, next(iter(retrieval.values()))[scorer]) for scorer in BASELINES]
    for label, figures in rows:
        values = (figure(figures[metric.key]) for metric in METRICS)
        table.add_row(label, f"{figures['targets']:,}", *values)
    return table


def top_k_table(response: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> Table:
    """Return a top-k response as a table, with the places of its items in the response of an earlier snapshot."""
    now = response["snapshot"]
    title = f"Top 10 for user {response['user']} by snapshot {now['id']} (step {now['step']:,})"
    if earlier:
        then = earlier["snapshot"]
        title += f"; before: by the first, {then['id']} (step {then['step']:,})"
    table = Table(title=title, title_justify="left")
    for column in ("", "title", "score", *(["before"] if earlier else [])):
        table.add_column(column, justify="left" if column == "title" else "right")
    places = {item["item_id"]: place for place, item in enumerate(earlier["items"], 1)} if earlier else {}
    for place, item in enumerate(response["items"], 1):
        before = [str(places.get(item["item_id"], "new"))] if earlier else []
        table.add_row(str(place), item["title"] or item["item_id"], f"{item['score']:.2f}", *before)
    return table


def shown_user(limit: int | None) -> str:
    """Return the usual user where the rows that are read have any of theirs, else the user of the last of these."""
    events = load_dataset("movielens", log_settings({"limit": limit})).table
    return _USER if _USER in events["user"] else str(events["user"][-1])


def run_demo(parent: Path, user: str | None, limit: int | None, *, stay: bool = False) -> None:
    """Run the demo in a new directory of `parent`, named after the time."""
    name = time.strftime("hstu-demo-%Y%m%d-%H%M%S")
    directory = parent / (name if not (parent / name).exists() else f"{name}-{os.getpid()}")
    Demo(directory.resolve(), user or shown_user(limit), limit, Console(), stay=stay).run()
