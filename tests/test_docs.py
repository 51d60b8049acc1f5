"""README and docs: every command and snippet runs, printed outputs are right, links and paths exist.

CONTRIBUTING.md explains the comments `<!-- test: … -->` by which a page says what is not run, or run smaller.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaConsumer

from sim.config import Settings
from stream.kafka.connection import Kafka
from stream.local_broker.node import free_port
from stream.schema.events import SourceTopic, decode_event
from stream.schema.ids import partition_of
from tests.kafka import KafkaForTests
from tests.preloaded import preloaded
from tests.test_architecture import ORDER

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINE: Final = 120
_MARK: Final = re.compile(r"<!-- test: (.*) -->")
_SHIMS: Final = {
    "hstu": f"""[ "$1" = broker ] && exit 0
eval "flags=\\$FLAGS_$(echo "$1" | tr - _)"
exec "$PYTHON" -S {ROOT}/tests/preloaded.py "$@" $flags""",
    "curl": 'exec "$CURL" --silent --show-error --fail --retry 30 --retry-connrefused --retry-delay 1 "$@"',
    **dict.fromkeys(("pip", "make", "docker", "python"), "exit 0"),  # checked by test_commands_name_what_is_there
}
_ITEMS: Final = "abcdefghijklmnopqrstuvwxyz"
_TITLES: Final = "item_id,title\n" + "".join(f"{item},Item {item}\n" for item in _ITEMS)
_LOG: Final = "user_id,item_id,ts\n" + "".join(
    f"{40 + turn % 5},{_ITEMS[(turn * 7 + turn // 5) % 26]},{1_700_000_000 + 40 * turn}\n" for turn in range(120)
)
_MACHINE: Final = re.compile(  # what differs from machine to machine: bits of a model, and times
    r"\d\.\d{4}|[\d,]+/s|\d:\d\d:\d\d|(?<=digest of model: )\w+"
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the comments before it say."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...]

    @property
    def changed(self) -> str:
        """The text with the words that a mark `with` replaces."""
        text = self.text
        for change in (self.mark("with") or "").split():
            text = text.replace(*change.split("="))
        return text

    def mark(self, name: str) -> str | None:
        """Return what follows the name in a mark of it, None without one."""
        found = (mark.partition(" ") for mark in self.marks)
        return next((rest for first, _, rest in found if first == name), None)

    @property
    def runs(self) -> bool:
        """Whether its commands are run at all."""
        return self.language in ("sh", "console") and "hstu " in self.text and self.mark("skip") is None

    @property
    def slow(self) -> bool:
        """Whether it takes more than seconds."""
        return self.mark("slow") is not None


@cache
def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    marks: list[str] = []
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if mark := _MARK.fullmatch(line):
            marks.append(mark[1])
        elif line.startswith("```"):
            body = []
            for _, inner in lines:
                if inner.startswith("```"):
                    break
                body.append(inner)
            found.append(Block(page, number, line[3:], "\n".join(body) + "\n", tuple(marks)))
            marks = []
        elif line:
            assert not marks, f"{page.name}:{number}: a test comment without a block behind it"
    return found


ALL: Final = [block for page in PAGES for block in blocks(page)]


def name_of(value: object) -> str:
    if isinstance(value, Block):
        return f"{value.page.relative_to(ROOT)}:{value.line}"
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Return each command of a console block, and the lines printed below it; a block of sh is one command."""
    if block.language == "sh":
        yield block.changed, []
        return
    for part in re.split(r"^\$ ", block.changed, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
        yield "\n".join(lines[:end]) + "\n", lines[end:]


class Shell:
    """Runs pages, each in a folder of its own, with `hstu` from this source, preloaded, and the tests' Kafka."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, server: Path) -> None:
        self._folder, self._port = folder / "here", free_port()
        self._replaced = {
            "127.0.0.1:9092": bootstrap,
            "127.0.0.1:8000": f"127.0.0.1:{self._port}",
            "TOPIC_PREFIX=": f"TOPIC_PREFIX={prefix}",
        }
        shims = folder / "bin"
        shims.mkdir()
        self._folder.mkdir()
        for name, body in _SHIMS.items():
            (shims / name).write_text(f"#!/bin/sh\n{body}\n")
            (shims / name).chmod(0o755)
        (self._folder / "log.csv").write_text(_LOG)
        (self._folder / "titles.csv").write_text(_TITLES)
        outside = {key: value for key, value in os.environ.items() if not key.startswith("HSTU_")}
        self._environment = outside | {
            "PATH": f"{shims}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHON": sys.executable,
            "PRELOADED": str(server),
            "CURL": shutil.which("curl") or "curl",
            "COLUMNS": "110",
            "HSTU_SERVE__PORT": str(self._port),
            "HSTU_STREAM__TOPIC_PREFIX": prefix,
        }

    def run(self, found: list[Block]) -> dict[str, list[str]]:
        """Run blocks in order, in one shell; return what each command printed, by its place.

        Raises:
            AssertionError: a command failed.
        """
        script = "".join(self._script(block) for block in found)
        log = self._folder.with_name("output.txt")
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-e", "-c", script],
                cwd=self._folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            status = process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what the page left running
            process.wait()
        output = re.sub(r"^.*Compiling loops for this machine.*\n", "", log.read_text(), flags=re.MULTILINE)
        assert status == 0, output
        parts = re.split(r"^@@ (.*)\n", output, flags=re.MULTILINE)
        return {place: text.splitlines() for place, text in zip(parts[1::2], parts[2::2], strict=True)}

    def _script(self, block: Block) -> str:
        text, flags = "", ""
        for mark in block.marks:
            for verb, _, more in (part.strip().partition(" ") for part in mark.split(";")):
                if more.startswith("--"):
                    flags += f"export FLAGS_{verb}='{more}'\n"
        for number, (command, _) in enumerate(commands(block)):
            text += f"echo '@@ {block.line}.{number}'\n{command}"
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return flags + text + "".join(f"unset {name}\n" for name in re.findall(r"FLAGS_\w+", flags))

    def write(self, block: Block, name: str) -> None:
        """Write a file that the page names, and later commands read."""
        text = block.text
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        (self._folder / name).write_text(text)


def run_page(page: Path, shell: Shell, *, slow: bool) -> str:
    """Run a page's blocks, compare what they print, and return all of it."""
    for block in blocks(page):
        if name := block.mark("file"):
            shell.write(block, name)
    found = [block for block in blocks(page) if block.runs and (slow or not block.slow)]
    printed = shell.run(found)
    for block in found:
        if block.mark("output") is not None:
            continue
        for number, (_, expected) in enumerate(commands(block)):
            if expected:
                compare(printed[f"{block.line}.{number}"], expected, block)
    return "\n".join(line for lines in printed.values() for line in lines)


def compare(printed: list[str], expected: list[str], block: Block) -> None:
    """Compare lines without their trailing spaces; a line … stands for any lines."""
    masked = block.mark("figures") is not None
    wanted = "".join(".*" if line == "…" else re.escape(_shown(line, masked)) + "\n" for line in expected).rstrip()
    found = "\n".join(_shown(line, masked) for line in printed).strip("\n")
    assert re.fullmatch(wanted, found, re.DOTALL), f"{name_of(block)} prints now:\n" + "\n".join(printed)


def _shown(line: str, masked: bool) -> str:
    return _MACHINE.sub("#", line.rstrip()) if masked else line.rstrip()


def pages(*, slow: bool) -> list[Path]:
    """Return the pages with something to run."""
    return [page for page in PAGES if any(block.runs and block.slow == slow for block in blocks(page))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `hstu` is preloaded."""
    path = tmp_path_factory.mktemp("hstu") / "socket"
    with preloaded(path):
        yield path


@pytest.fixture
def shell(tmp_path: Path, kafka: KafkaForTests, topic_prefix: str, server: Path) -> Shell:
    if shutil.which("curl") is None:
        pytest.skip("the commands of the pages were not run: there is no curl here")
    return Shell(tmp_path, kafka.bootstrap, topic_prefix, server)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", pages(slow=False), ids=name_of)
def test_the_commands_of_a_page_run(page: Path, shell: Shell) -> None:
    """In order, in one folder, without an error; what is printed below a command is what it prints."""
    printed = run_page(page, shell, slow=False)
    if page.name == "README.md":
        assert re.search(r"^1\t\w\tItem \w\t", printed, re.MULTILINE), printed
        assert re.search(r'"items":\[\{"item_id":', printed), printed


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", pages(slow=True), ids=name_of)
def test_the_slow_commands_of_a_page_run(page: Path, shell: Shell) -> None:
    """The same with the blocks that take minutes."""
    run_page(page, shell, slow=True)


SNIPPETS: Final = [block for block in ALL if block.language == "python" and "KafkaProducer" not in block.text]


@pytest.mark.parametrize("page", sorted({block.page for block in SNIPPETS}), ids=name_of)
def test_python_snippets_run(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All snippets of a page in one namespace; a print says in a comment what it prints."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python" and block.mark("skip") is None:
            exec(block.mark("before") or "", names)
            exec(compile(block.changed, name_of(block), "exec"), names)
            expected = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
            assert capsys.readouterr().out.splitlines() == expected


def test_the_producer_of_the_readme_sends_events(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Each record decodes as an event of its topic and lies in its user's partition."""
    from stream.config import StreamSettings
    from stream.kafka.topics import create_topics

    create_topics(Kafka(kafka.bootstrap), StreamSettings(topic_prefix=topic_prefix))
    (block,) = (block for block in ALL if "KafkaProducer" in block.text)
    text = block.text.replace("127.0.0.1:9092", kafka.bootstrap).replace("live-", topic_prefix)
    names: dict[str, Any] = {}
    exec(compile(text, name_of(block), "exec"), names)
    names["producer"].close()
    for source in SourceTopic:
        consumer = KafkaConsumer(
            topic_prefix + source.topic,
            bootstrap_servers=kafka.bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=10_000,
        )
        record = next(consumer)
        consumer.close()
        decode_event(source, record.value, max_slate=200, now_ms=None)
        assert record.partition == partition_of(record.key, StreamSettings().partitions)


def test_commands_name_what_is_there() -> None:
    """Targets of make, extras of pip, benchmarks and their flags: what is not run in these tests exists."""
    text = "\n".join(page.read_text() for page in PAGES)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ *|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\.\[([\w,]+)\]", text)
    assert {extra for group in named for extra in group.split(",")} <= extras.keys()
    logged = (ROOT / "bench" / "logged.py").read_text()
    for script, arguments in re.findall(r"python (bench/\w+\.py)([^\n`#]*)", text):
        source = (ROOT / script).read_text() + logged
        assert not [flag for flag in re.findall(r"--[a-z-]+", arguments) if f'"{flag}"' not in source], script


def test_no_command_hides_in_an_indented_block() -> None:
    """Commands stand in fenced blocks of sh or console, where they are run."""
    indented = r"^ {4,}(?:\$ )?(?:hstu|python|pip|make|bench/\S+) .*"
    assert not [found for page in PAGES for found in re.findall(indented, prose(page), re.MULTILINE)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_command_stands_in_a_block_that_is_run() -> None:
    """A block with a line of `hstu` is `sh` or `console`, and no fence is indented: others are not seen."""
    assert not [
        f"{block.page.name}:{block.line}"
        for block in ALL
        if re.search(r"^(\$ )?hstu ", block.text, re.MULTILINE) and block.language not in ("sh", "console")
    ]
    assert not [page.name for page in PAGES if re.search(r"^ +```", page.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name a file, and a heading where there is a #."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    assert not re.findall(r"\]\[|^\[[^\]]+\]:|<a href", text, re.MULTILINE), "links of another form are not checked"
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)[^)]*\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page: Path) -> None:
    """Paths in backticks, and names of Python files anywhere, are those of files in the repository."""
    text = prose(page)
    for path in re.findall(r"`((?:stream|model|sim|tests|bench|docs)/[\w./*-]*)`", text):
        assert any(ROOT.glob(path.rstrip("/"))), path
    for name in set(re.findall(r"[\w./-]*\w+\.py\b", text)):
        tail = name.lstrip("./").replace("\\_", "_")
        assert any(str(path).endswith(f"/{tail}") for path in _sources()), name


@cache
def _sources() -> list[Path]:
    return [path for folder in ("stream", "model", "sim", "tests", "bench") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_exist(page: Path) -> None:
    """A dotted name in backticks such as `stream.gather_s` is a setting."""
    settings = Settings()
    for table, key in re.findall(r"`(stream|model|train|serve)\.(\w+)`", page.read_text()):
        assert hasattr(getattr(settings, table), key), f"{table}.{key}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_short(page: Path) -> None:
    """Outside tables and blocks."""
    assert not [line for line in prose(page).splitlines() if len(line) > LINE and not line.startswith("|")]


def test_the_map_has_every_package_in_order() -> None:
    """docs/architecture.md names all units of ORDER, each after those that it may import."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("| package |")[2].partition("\n\n")[0]
    at = []
    for unit in ORDER.split():
        if not unit.startswith("sim.report."):  # in the row of sim.report
            path = unit.replace(".", "/")
            found = [table.find(f"`{name}`") for name in (path, f"{path}.py") if f"`{name}`" in table]
            assert found, unit
            at.append(found[0])
    assert at == sorted(at)
