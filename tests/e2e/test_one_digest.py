"""The same log ends with the same sequences, examples and model: in one process, and through Kafka, killed or not."""

import csv
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.config import load
from sim.demo.processes import Child, stop_all
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import read_log
from stream.config import StreamSettings
from stream.example import Example
from stream.schema.ids import id_key, id_text, partition_of
from stream.schema.tokens import Kind
from stream.store.reader import SequenceReader
from tests.oracles import Token, Wire, join

EVENTS = 10_000
PARTITIONS = 4
TOML = f"""
[stream]
partitions = {PARTITIONS}
lateness_s = 5.0
action_window_s = 120.0
example_tokens = 32
poll_records = 500

[model]
dim = 16
heads = 2
layers = 1
max_len = 32

[train]
batch_examples = 16
negatives = 32
checkpoint_s = 0.5
snapshot_s = 1.0
"""
BOUNDS = """
admit_after = 2
item_ttl_d = 0.02
max_items = 300
evict = "both"
"""  # of [train], the last table: items die, and some come back
COLUMNS = ["--user", "user", "--item", "item", "--time", "time", "--action", "action", "--request", "request"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log of 10,000 rows: slates of three with clicks and likes, and organic actions."""
    rng, path = random.Random(7), tmp_path_factory.mktemp("log") / "log.csv"
    rows: list[tuple[str, str, int, str, str]] = []
    now = 1_700_000_000_000
    while len(rows) < EVENTS:
        now += rng.randrange(200, 3_000)
        user = f"user-{rng.randrange(400)}"
        if rng.random() < 0.3:
            shown = rng.sample(range(800), 3)
            acts = [rng.choice(["", "", "click", "like"]) for _ in shown]
            rows += [(user, f"item-{i}", now, act, f"r{now}") for i, act in zip(shown, acts, strict=True)]
        else:
            rows.append((user, f"item-{int(rng.paretovariate(0.8)) % 800}", now, "click", ""))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time", "action", "request"])
        writer.writerows(rows[:EVENTS])
    return path


class Run:
    """One way of the log: a data directory, its configuration and its processes."""

    def __init__(self, directory: Path, bootstrap: str = "", prefix: str = "", bounds: str = "") -> None:
        directory.mkdir()
        self.directory = directory
        self.config = directory / "hstu.toml"
        self.config.write_text(TOML + bounds)
        self.environment = {"HSTU_DATA_DIR": str(directory / "data"), "HSTU_STREAM__TOPIC_PREFIX": prefix}
        self.environment |= {"HSTU_BOOTSTRAP": bootstrap} if bootstrap else {}
        self.children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        child = Child(name, ["--config", str(self.config), *arguments], self.directory / "logs", self.environment)
        self.children.append(child)
        return child

    def do(self, name: str, *arguments: str) -> str:
        child = self.start(name, *arguments)
        assert child.wait(120) == 0, child.log.read_text()
        return child.log.read_text()

    def digests(self) -> Mapping[str, Any]:
        found = json.loads(self.do("show", "snapshots", "show", "--json"))["digests"]
        return {name: found[name] for name in ("sequences", "examples", "model")}

    def manifest(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.do("manifest", "snapshots", "show", "--json"))
        return shown


def until(true: Callable[[], Any], what: str, timeout_s: float = 60) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def through_kafka(run: Run, log: Path, workers: int, *, killed: bool) -> None:
    """Replay the log through workers and a trainer; kill one of each midway, and start others in their place."""
    run.do("topics", "topics", "create")
    team = [run.start(f"worker-{i}", "worker") for i in range(workers)]
    trainer = run.start("trainer", "train", "--until-end", "--quiet")
    until(lambda: "Metrics on" in trainer.log.read_text(), "the trainer")
    speed = "700/s" if killed else "max"  # slow enough to last until the first checkpoint
    replay = run.start("replay", "replay", str(log), *COLUMNS, "--speed", speed)
    if killed:
        checkpoints = run.directory / "data" / "train" / "silu"
        until(lambda: any(checkpoints.glob("*/manifest.json")), "a checkpoint", 90)
        assert replay.running()
        os.kill(team[0].pid, signal.SIGKILL)
        trainer.kill()
        until(lambda: not team[0].running(), "the death of a worker")
        run.start("worker-again", "worker")
        trainer = run.start("trainer-again", "train", "--until-end", "--quiet")
    assert replay.wait(120) == 0, replay.log.read_text()
    assert trainer.wait(180) == 0, trainer.log.read_text()


@pytest.fixture(scope="module")
def direct(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return a function that runs the log in one process, without Kafka."""

    @cache
    def run_of(bounds: str) -> Run:
        run = Run(tmp_path_factory.mktemp("direct") / "run", bounds=bounds)
        run.do("direct", "replay", str(log), *COLUMNS, "--direct")
        return run

    return run_of


@pytest.mark.broker
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("workers", "killed", "bounds"),
    [
        (2, True, BOUNDS),
        pytest.param(2, False, "", marks=pytest.mark.slow),
        pytest.param(1, False, "", marks=pytest.mark.slow),
        pytest.param(2, True, "", marks=pytest.mark.slow),
        pytest.param(2, False, BOUNDS, marks=pytest.mark.slow),
    ],
    ids=["killed-bounded", "two", "one", "killed", "bounded"],
)
def test_the_digests_agree(
    workers: int, killed: bool, bounds: str, log: Path, direct: Callable[[str], Run], kafka: Any, tmp_path: Path
) -> None:
    """One worker, two workers, a worker and the trainer killed by SIGKILL: all end as the one process does.

    With and without items that die.
    """
    prefix = f"e2e-{workers}-{killed}-{len(bounds)}-{os.getpid()}-".lower()
    run = Run(tmp_path / "run", kafka.bootstrap, prefix, bounds)
    try:
        through_kafka(run, log, workers, killed=killed)
        assert run.digests() == direct(bounds).digests(), f"on {kafka.description}"
        if killed:
            check_against_oracle(run, log)
    finally:
        assert stop_all(run.children) == []


def check_against_oracle(run: Run, log: Path) -> None:
    """Check that the sequences equal the oracle's, and that each of its targets was trained on exactly once."""
    settings = load(run.config).stream
    users, examples = oracle(log, settings)
    reader = SequenceReader(run.directory / "data", settings)
    for user, tokens in users.items():
        stored = reader.tokens(user, len(tokens) + 10)
        assert stored is not None
        assert stored.tolist() == [tuple(token) for token in tokens]
    reader.close()
    manifest = run.manifest()
    assert manifest["examples"] == len(examples)
    assert (manifest["targets"], manifest["rank_targets"]) == counts(examples)


def counts(examples: list[Example]) -> tuple[int, int]:
    """Return how many items got an action, or were acted on without being shown; and how many were shown."""
    kinds = np.concatenate([example.kinds[example.positions] for example in examples])
    acted = np.concatenate([np.diff(example.label_offsets) > 0 for example in examples])
    return int(acted.sum()), int((kinds == Kind.IMPRESSION).sum())


def oracle(log: Path, settings: StreamSettings) -> tuple[dict[str, list[Token]], list[Example]]:
    """Join the log in memory: every user's tokens, and all examples."""
    events: list[dict[str, list[Wire]]] = [{} for _ in range(PARTITIONS)]
    texts: dict[int, str] = {}
    mapping = LogSettings(user="user", item="item", time="time", action="action", request="request")
    for event in read_log([str(log)], mapping).events():
        assert event.value is not None
        wire = json.loads(event.value)
        user = id_text(wire["user_id"])
        texts[id_key(user)] = user
        events[partition_of(user.encode(), PARTITIONS)].setdefault(event.topic, []).append(wire)
    joined = [join(own, settings, number) for number, own in enumerate(events)]
    users = {texts[key]: tokens for part in joined for key, tokens in part.tokens.items()}
    return users, [example for part in joined for example in part.examples]


def test_the_oracle_knows_every_row(log: Path) -> None:
    """The log has what the runs are tested on: slates, labels, organic actions, users in every partition."""
    users, examples = oracle(log, load(None, {"stream.partitions": PARTITIONS}).stream)
    assert len(users) > 390
    acted, shown = counts(examples)
    assert acted > 5_000
    assert shown > 2_500
