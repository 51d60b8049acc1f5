"""A job beside the training: a child process that has the memory as it was at the fork.

A fork copies the tables of pages and no data, so the training stands still for milliseconds. What it writes meanwhile
the kernel copies page by page, so the child sees one moment, and memory grows by the pages that have moved. The child
runs the job and nothing else: other threads do not exist in it. It is killed with its parent, so that after a kill -9
nothing writes on. Linux alone: elsewhere a fork beside threads is not safe, or a child outlives its parent.
"""

import ctypes
import gc
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Final

from model.errors import ModelError

POSSIBLE: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1
_MOST_S: Final = 900.0  # after which a job is taken for one that hangs


class Background:
    """At most one job at a time."""

    def __init__(self) -> None:
        self._child = self._pipe = -1
        self._name, self._since_s = "", 0.0
        self._done: Callable[[str], None] = lambda _: None

    @property
    def busy(self) -> bool:
        """Whether a job has begun and its end was not yet noted."""
        return self._child > 0

    def begin(self, name: str, job: Callable[[], str], done: Callable[[str], None]) -> None:
        """Begin a job, after the end of the one before.

        Args:
            name: What it writes, for sentences.
            job: Runs in the child; what it changes in memory is lost, but for the text that it returns.
            done: Is called in this process with that text, by `note` or `wait`.

        Raises:
            ModelError: The job before has failed.
        """
        self.wait()
        reader, writer = os.pipe()
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: other threads hold locks; see above
            child = os.fork()
        if not child:
            _run(job, writer, parent)
        os.close(writer)
        self._child, self._pipe = child, reader
        self._name, self._done, self._since_s = name, done, time.monotonic()

    def note(self) -> None:
        """Note the end of the job if it has come.

        Raises:
            ModelError: It has failed.
        """
        if self.busy:
            if select.select([self._pipe], [], [], 0)[0]:
                self._finish()
            elif time.monotonic() - self._since_s > _MOST_S:
                os.kill(self._child, signal.SIGKILL)
                self._finish()

    def wait(self) -> None:
        """Wait for the end of the job, if there is one.

        Raises:
            ModelError: It has failed.
        """
        while self.busy:
            select.select([self._pipe], [], [], 1.0)
            self.note()

    def _finish(self) -> None:
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(self._child, 0)
        self._child = -1
        if not told:
            raise ModelError(
                f"The process that writes {self._name} has ended with status {os.waitstatus_to_exitcode(status)} "
                "before it was done; was memory short? What was written before is whole, and the trainer goes on from "
                "its last checkpoint."
            )
        error, text = json.loads(told)
        if error:
            raise ModelError(error)
        self._done(text)


def _run(job: Callable[[], str], writer: int, parent: int) -> None:
    """Run the job in the child, tell how it went, and end without any of the parent's clean-up."""
    try:
        gc.disable()  # it would touch, and so copy, every object
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and a supervisor's stop, reach all; the parent decides
            signal.signal(number, signal.SIG_IGN)
        if os.getppid() == parent:
            os.write(writer, json.dumps(_told(job)).encode())
    finally:
        os._exit(0)


def _told(job: Callable[[], str]) -> tuple[str, str]:
    """Return a sentence on what went wrong, empty if nothing did, and what the job has returned."""
    try:
        return "", job()
    except ModelError as error:
        return str(error), ""
    except Exception as error:  # any bug must reach the parent, which stops by it
        return f"A checkpoint or snapshot could not be written: {error!r}.", ""
