"""Prometheus and Grafana: their files fit what is exported, promtool takes them, each alert says what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from model.serving.hot_swap import Swapper
from model.serving.http.prometheus import ServerMetrics
from model.storage.checkpoint import say_farewell
from model.trainer.prometheus import TrainerMetrics
from model.user_states.cache import UserStates
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.worker.prometheus import WorkerMetrics
from tests.memory_store import MemoryStore
from tests.model.trainer.test_live_table import reported
from tests.wire import Record, wire

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "hstu.json").read_text())


@pytest.fixture(scope="module")
def expositions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a worker, a trainer and a server answer at /metrics."""
    partition = Partition(MemoryStore({}), 0, StreamSettings(partitions=1, lateness_s=1))
    for source in SourceTopic:
        partition.handle(source, [Record(0, wire({"watermark": 9000}))])
    worker, trainer = CollectorRegistry(), TrainerMetrics()
    worker.register(WorkerMetrics(lambda: [partition], lambda source, number: 1, lambda: 10_000.0, 1))
    trainer.update(reported(tmp_path_factory.mktemp("run"), 40), lag=3)

    def load(path: Path) -> Any:
        raise AssertionError(path)

    runs = tmp_path_factory.mktemp("train")
    for name, how in (("silu", "diverged"), ("softmax", "stopped")):
        (runs / name).mkdir()
        say_farewell(runs / name, how)
    server = ServerMetrics(Swapper(Path("none"), "latest", load), UserStates(0), runs, lambda *_: None)
    registries = {"worker": worker, "trainer": trainer.registry, "server": server.registry}
    return {name: generate_latest(registry).decode() for name, registry in registries.items()}


def families(exposition: str) -> set[str]:
    """Return the names of the families, without the suffix that a counter's samples have."""
    return {
        line.split()[2].removesuffix("_total") for line in exposition.splitlines() if line.startswith("# TYPE hstu")
    }


def test_a_name_has_one_meaning(expositions: dict[str, str]) -> None:
    """No two kinds of process export one name, and all samples of a trainer name it."""
    found = [families(exposition) for exposition in expositions.values()]
    assert all(found)
    assert sum(len(names) for names in found) == len(set.union(*found))
    samples = [line for line in expositions["trainer"].splitlines() if line.startswith("hstu")]
    assert all('trainer="' in line for line in samples)


def test_alerts_and_panels_ask_for_what_is_exported(expositions: dict[str, str]) -> None:
    """A metric that was renamed would leave its alert silent for ever."""
    known = set.union(*(families(exposition) for exposition in expositions.values()))
    asked = [rule["expr"] for rule in RULES]
    asked += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    for expression in asked:
        for name in re.findall(r"hstu_[a-z_]+", expression):
            assert re.sub("_(total|bucket)$", "", name) in known, expression


def test_a_trainer_that_has_diverged_is_exported_by_the_server(expositions: dict[str, str]) -> None:
    """Its own port is closed by then, and its last scrape had a finite loss."""
    for trainer, value in (("silu", "1.0"), ("softmax", "0.0")):
        assert f'hstu_trainer_diverged{{trainer="{trainer}"}} {value}\n' in expositions["server"]


def test_two_units_have_two_axes() -> None:
    """Loss and tokens a second differ by a factor of thousands."""
    (panel,) = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Loss, tokens a second"]
    (override,) = panel["fieldConfig"]["overrides"]
    assert panel["targets"][1]["refId"] == override["matcher"]["options"]
    assert override["properties"] == [{"id": "custom.axisPlacement", "value": "right"}]


def test_every_alert_says_what_to_do() -> None:
    """A section of docs/monitoring.md for each, which the alert names."""
    headings = re.findall(r"^### (Hstu\w+)$", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_promtool_takes_the_files(expositions: dict[str, str]) -> None:
    """Configuration and rules are valid, each alert fires at its fault and at no other time; names are conventional."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool was not run: there is none here (apt-get install prometheus)")
    for arguments in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ):
        done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for name, exposition in expositions.items():
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
        )
        assert (name, done.returncode, done.stdout + done.stderr) == (name, 0, "")
