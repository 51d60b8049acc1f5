"""Child processes: their logs, their environment, and how they end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.demo import processes
from sim.demo.processes import Child, stop_all
from sim.errors import SimError

WAIT_S = 60.0
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a Python script in place of `hstu`: a child finds sim/main.py in its working directory."""
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)

    def run(name: str, script: str, *arguments: str, **environment: str) -> Child:
        (tmp_path / "sim" / "main.py").write_text(script)
        child = Child(name, arguments, tmp_path / "logs", environment)
        deadline = time.monotonic() + WAIT_S
        while child.running() and "up" not in child.last_words():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return child

    return run


def test_a_child_has_its_arguments_and_no_settings_of_ours(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """HSTU_* variables of the parent would reach every child; those given do. Its output is its log."""
    monkeypatch.setenv("HSTU_TRAIN__NAME", "ours")
    monkeypatch.setenv("OTHER", "kept")
    script = (
        "import os, sys\nprint(sys.argv[1:], *(os.environ.get(n) for n in ('HSTU_TRAIN__NAME', 'HSTU_X', 'OTHER')))"
    )
    child = start("one", script, "worker", "--flag", HSTU_X="given")
    assert child.wait(WAIT_S) == 0
    assert child.last_words() == "['worker', '--flag'] None given kept"
    assert child.log.name == "one.log"
    child.check()


def test_a_child_that_failed_is_quoted(start: Start) -> None:
    """The last line of its log, errors included; an empty log is said to be empty."""
    child = start("two", "print('before')\nraise SystemExit('out of luck')")
    assert child.wait(WAIT_S) == 1
    with pytest.raises(SimError, match=r"two has ended with status 1: out of luck \(its log is .*two\.log\)"):
        child.check()
    silent = start("three", "import os; os._exit(3)")
    silent.wait(WAIT_S)
    with pytest.raises(SimError, match="status 3: its log is empty"):
        silent.check()


def test_a_child_that_goes_on_is_not_waited_for_in_vain(start: Start) -> None:
    """The error has its name and the time; kill ends it as kill -9 does."""
    child = start("four", "import time\nprint('up')\ntime.sleep(600)")
    child.check()
    with pytest.raises(SimError, match=r"four has not ended within 0\.1 s"):
        child.wait(0.1)
    assert os.getsid(child.pid) != os.getsid(0)  # a terminal's Ctrl-C does not reach it
    child.kill()
    assert (child.running(), child.wait(WAIT_S)) == (False, -signal.SIGKILL)


def test_who_does_not_stop_is_killed_and_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that end by SIGTERM, or have ended before, are not named."""
    monkeypatch.setattr(processes, "_STOP_S", 0.5)
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\ntime.sleep(600)"
    children = [start("over", "print('up')"), start("obeys", "import time\nprint('up')\ntime.sleep(600)")]
    children.append(start("deaf", deaf))
    assert children[0].wait(WAIT_S) == 0
    assert stop_all(children) == ["deaf"]
    assert not any(child.running() for child in children)
    assert children[2].wait(WAIT_S) == -signal.SIGKILL
