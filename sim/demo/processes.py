"""Child processes of the demo and of end-to-end tests: `hstu` commands, each with a log; they die with us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sim.errors import SimError
from stream.local_broker import die_with_parent

_STOP_S: Final = 20.0


class Child:
    """One `hstu` command, which dies with its parent (stream/local_broker/die_with_parent.py).

    It runs in its own session, so that a terminal's Ctrl-C reaches the parent alone.

    Args:
        name: Its name in messages, and that of its log.
        arguments: The arguments of `hstu`.
        logs: The folder of the logs.
        environment: Variables added to ours, from which all HSTU_* variables are removed.
    """

    def __init__(self, name: str, arguments: Sequence[str], logs: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HSTU_")}
        command = [
            sys.executable,
            "-I",
            "-S",
            die_with_parent.__file__,
            str(os.getpid()),
            sys.executable,
            "-m",
            "sim.main",
        ]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=inherited | {"PYTHONUNBUFFERED": "1"} | dict(environment),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def running(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def check(self) -> None:
        """Check that it runs or has ended with status 0.

        Raises:
            SimError: It has failed; the error quotes the last line of its log.
        """
        status = self._process.poll()
        if status:
            raise SimError(f"{self.name} has ended with status {status}: {self.last_words()} (its log is {self.log}).")

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "its log is empty"

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends and return its status.

        Raises:
            SimError: It has not ended in time.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SimError(f"{self.name} has not ended within {timeout_s:g} s; its log is {self.log}.") from None

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._process.kill()
        self._process.wait()


def stop_all(children: Sequence[Child]) -> list[str]:
    """Stop all children by SIGTERM; kill those that take longer than _STOP_S, and return their names."""
    for child in children:
        if child.running():
            os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    killed = []
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except SimError:
            child.kill()
            killed.append(child.name)
    return killed
