import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from model.arrays.jit import ANY_ORDER, _once_a_machine, compiled, compiling

ROOT = Path(__file__).parents[3]


def _sum(numbers: Any) -> Any:
    total = np.float32(0)
    for number in numbers:
        total += number
    return total


def test_sums_are_rounded_as_written() -> None:
    """In float32, adding 1 to 1e8 changes nothing; partial sums of the ones would."""
    assert compiled(_sum)(np.array([1e8, *[1.0] * 64], np.float32)) == np.float32(1e8)


def test_the_cache_tells_the_flags_apart() -> None:
    """Numba's cache goes by the name, so that a function compiled with any order has another one."""

    def own(x: float) -> float:
        return x + 1

    before = own.__qualname__
    assert compiled(own).__qualname__ == before
    assert compiled(own, any_order=True).__qualname__ == "_".join((before, *ANY_ORDER))


def test_a_constant_has_no_version_of_its_own(tmp_path: Path) -> None:
    """A function that others call with constants is compiled once."""
    (tmp_path / "calls.py").write_text(
        "from model.arrays.jit import compiled\n@compiled\ndef add(x, n):\n    return x + n\n"
        "@compiled\ndef sums(x, n):\n    return add(x, 0) + add(x, 5) + add(x, n)\n"
    )
    output, errors = _started(
        tmp_path, "from calls import add, sums; print(sums(1, 2), len(add.signatures))"
    ).communicate()
    assert output == "10 1\n", errors


def test_without_a_folder_for_the_cache_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package is installed read-only and NUMBA_CACHE_DIR is not set."""

    def without_folder(*_: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.caching.FunctionCache.__init__", without_folder)
    assert compiled(_sum)(np.ones(3, np.float32)) == 3


def test_what_was_cached_before_a_module_moved_is_compiled_again(tmp_path: Path) -> None:
    """A package that is moved with its cache, as by an upgrade in place, names a module there that is gone.

    A process that compiles says so once, and one that finds everything compiled says nothing.
    """
    _package(tmp_path / "one")
    for package, again in (("one", False), ("one", True), ("two", False)):
        code = f"from {package}.sums import twice; print(twice(4)); twice(1.5)"
        output, errors = _started(tmp_path, code).communicate()
        assert output == "8\n", errors
        assert errors.count("Compiling loops for this machine, once") == (not again), errors
        if again:
            assert list((tmp_path / "one" / "__pycache__").glob("*.nbi"))
            (tmp_path / "one").rename(tmp_path / "two")


def test_of_processes_that_start_together_one_compiles(tmp_path: Path) -> None:
    """The others wait for it, and load what it compiled."""
    _package(tmp_path / "one")
    code = (
        "import os, time; from pathlib import Path; from one.sums import twice; Path(str(os.getpid())).touch()\n"
        "while len([name for name in os.listdir() if name.isdigit()]) < 3: time.sleep(0.001)\n"
        "twice(4); print(sum(twice.stats.cache_misses.values()))"
    )
    started = [_started(tmp_path, code) for _ in range(3)]
    assert sorted(each.communicate()[0] for each in started) == ["0\n", "0\n", "1\n"]


def test_a_process_that_is_stopped_while_it_compiles_blocks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait is said before it begins, and has an end; then the others compile too, and wait no more."""
    monkeypatch.setattr("model.arrays.jit._turn.patience_s", 0.1)
    held, states = FileLock(tmp_path / "one.lock"), []

    def compile_(signature: str) -> str:
        states.append(compiling())
        return signature

    compile_once = _once_a_machine(compile_, tmp_path / "one.lock")
    with held:
        assert [compile_once("f8"), compile_once("i8")] == ["f8", "i8"]
    assert (states, compiling()) == ([True, True], False)
    waits, gives_up = caplog.messages
    assert waits.startswith("Another process compiles loops for this machine; waiting")
    assert gives_up.startswith(f"The process that holds {tmp_path / 'one.lock'} has not compiled")
    with held.acquire(timeout=0):  # nothing is held that was not taken
        pass


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_compiles_what_its_parent_has_declared(tmp_path: Path) -> None:
    """A lock that was made before the fork would be refused."""
    compile_once, failed = _once_a_machine(lambda signature: signature, tmp_path / "one.lock"), 1
    child = os.fork()
    if child == 0:
        try:
            failed = int(compile_once("f8") != "f8")
        finally:
            os._exit(failed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _package(folder: Path) -> None:
    folder.mkdir()
    code = "from model.arrays.jit import compiled\n@compiled\ndef twice(x):\n    return 2 * x\n"
    (folder / "sums.py").write_text(code)


def _started(folder: Path, code: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = f"{folder}:{ROOT}"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
