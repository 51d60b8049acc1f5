"""The `hstu` command: what it needs installed, what it says where an extra is missing, version and completion."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from click import Context
from typer.main import get_command

from sim.main import EXTRAS, PACKAGES, _settings, app
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import list_topics
from tests.hstu import hstu as hstu_here
from tests.kafka import KafkaForTests

ROOT = Path(__file__).parents[2]
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({list(PACKAGES)!r})); from sim.main import main; main()"
SECOND_S, PATIENCE_S = 0.2, 60.0


def command(*arguments: str) -> list[str]:
    """Return the command line of `hstu` in a Python that cannot import the packages of any extra."""
    return [sys.executable, "-c", WITHOUT_EXTRAS, *arguments]


def hstu(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | variables
    return subprocess.run(command(*arguments), env=env, text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    "verb",
    [
        ["--help"],
        ["settings"],
        ["scenarios", "list"],
        ["scenarios", "show", "shock", "--events", "300"],
        ["train", "--help"],
        ["query", "--help"],
    ],
)
def test_what_a_light_installation_can_do(verb: list[str]) -> None:
    """Settings, scenarios and every --help need no package of an extra."""
    done = hstu(*verb)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_worker_a_replay_and_topics_need_no_extra(kafka: KafkaForTests, topic_prefix: str, tmp_path: Path) -> None:
    """They do their work in Pythons that cannot import PyTorch, Numba, or what else comes with an extra."""
    settings = StreamSettings(topic_prefix=topic_prefix, partitions=2)
    variables = {
        "HSTU_BOOTSTRAP": kafka.bootstrap,
        "HSTU_DATA_DIR": str(tmp_path),
        "HSTU_STREAM__TOPIC_PREFIX": topic_prefix,
        "HSTU_STREAM__PARTITIONS": "2",
    }
    made = hstu("topics", "create", **variables)
    assert made.returncode == 0, made.stderr
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command("worker"), env=env, stdout=log, stderr=log) as worker,
    ):
        try:
            replayed = hstu("replay", "--scenario", "shock", "--events", "200", **variables)
            assert replayed.returncode == 0, replayed.stderr
            until = time.monotonic() + PATIENCE_S
            while not examples(kafka, settings) and time.monotonic() < until:
                time.sleep(SECOND_S)
            assert examples(kafka, settings) > 0, (tmp_path / "log").read_text()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_S) == 0
        finally:
            worker.kill()
    made_by_hstu = [path for path in tmp_path.rglob("*") if path != tmp_path / "log"]
    assert {"store", "seats", "replay"} <= {path.relative_to(tmp_path).parts[0] for path in made_by_hstu}
    assert [
        str(path) for path in made_by_hstu if path.stat().st_mode & 0o077
    ] == []  # histories are their owner's alone


@pytest.mark.parametrize(("verb", "inside"), [("compare", 0o022), ("scenarios", 0o022), ("replay", 0o077)])
def test_reports_are_for_those_whom_the_user_lets_read(verb: str, inside: int) -> None:
    """What a report is written with is the user's own umask; histories and weights are their owner's alone."""
    context = Context(get_command(app))
    context.invoked_subcommand = verb
    before = os.umask(0o022)
    try:
        with context:
            _settings(context, None)
            assert os.umask(inside) == inside
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def examples(kafka: KafkaForTests, settings: StreamSettings) -> int:
    state = list_topics(Kafka(kafka.bootstrap), settings)[f"{settings.topic_prefix}examples"]
    return state.messages if state else 0


@pytest.mark.parametrize(
    ("verb", "package"),
    [
        (["train"], "PyTorch"),
        (["serve"], "(PyTorch|FastAPI|Uvicorn|Starlette)"),
        (["query", "topk", "--user", "ada"], "(PyTorch|safetensors|Numba)"),
        (["snapshots", "list"], "safetensors"),
        (["compare", "--preset", "paper"], "(PyTorch|Matplotlib|SciPy|Jinja2|Numba)"),
        (["scenarios", "show", "shock", "--events", "300", "--html", "page.html"], "Matplotlib"),
        (["replay", "--synthetic", "dirichlet", "--records", "10", "--direct"], "PyTorch"),
        (["demo"], "PyTorch"),
    ],
)
def test_a_verb_without_its_extra_says_which(
    verb: list[str], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with the line to type, exit code 1; nothing has been made."""
    monkeypatch.chdir(tmp_path)
    done = hstu(*verb)
    *_, last = done.stderr.splitlines()
    line = rf"pip install 'hstu-stream\[{EXTRAS[verb[0]]}\]'\."
    wanted = f"hstu: hstu {verb[0]} needs {package}, which is not installed: {line}"
    assert done.returncode == 1
    assert re.fullmatch(wanted, last), done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_extras_are_those_of_the_package() -> None:
    """Each extra that a sentence names exists; each package of PACKAGES comes with an extra, and not without one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
    light = {re.split("[>=]", requirement)[0].lower() for requirement in project["dependencies"]}
    heavy = {re.split("[>=]", requirement)[0].lower() for extra in extras.values() for requirement in extra}
    assert not light & set(PACKAGES)
    assert set(PACKAGES) <= heavy


@pytest.mark.parametrize("name", ["polars", "safetensors.numpy"])
def test_another_missing_module_is_a_defect_and_shows_its_traceback(name: str) -> None:
    """Only a package of an extra that is missing as a whole becomes a sentence."""
    code = f"import sys; sys.modules[{name!r}] = None; from sim.main import main; main()"
    verb = ["scenarios", "list"] if name == "polars" else ["snapshots", "list"]
    arguments = [sys.executable, "-c", code, *verb]
    done = subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert name in done.stderr


def test_the_version_is_that_of_the_package() -> None:
    """As pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert hstu("--version").stdout == f"hstu-stream {project['version']}\n"


def test_a_shell_can_complete_verbs() -> None:
    """What the script of --install-completion asks for."""
    words = {"COMP_WORDS": "hstu sn", "COMP_CWORD": "1", "_HSTU_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'hstu'; from sim.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | words, text=True, capture_output=True, check=False
    )
    assert done.stdout.split() == ["snapshots"]


def test_a_place_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    """Whatever verb meets it: no traceback, and the place is named."""
    (tmp_path / "file").write_text("")
    place = ["--data-dir", str(tmp_path / "file" / "x")]
    done = hstu_here("replay", "--synthetic", "dirichlet", "--records", "2", "--direct", *place)
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr


def test_a_sentence_commands_no_terminal(tmp_path: Path) -> None:
    """What it quotes may come from a topic or from an argument: ESC is printed as an escape."""
    done = hstu("snapshots", "alias", "\x1b]0;pwned\x07", "latest", HSTU_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    done = hstu("--config", "no\x1b[2Jfile.toml", "settings")
    assert (done.returncode, "\x1b" in done.stderr) == (1, False)
    assert r"no\x1b[2Jfile.toml" in done.stderr


def test_a_trainers_name_leads_nowhere_else(tmp_path: Path) -> None:
    """It becomes a folder: `..` and separators are refused."""
    for name in ("../../elsewhere", "/etc", ".."):
        done = hstu_here("serve", "--name", name, HSTU_DATA_DIR=str(tmp_path))
        assert (done.returncode, "name" in done.stderr) == (1, True)
