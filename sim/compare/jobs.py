"""Runs side by side: a process for each core, results in files, so that what was stopped goes on.

    <out>/runs/<id>.json        what a run gave; it is not run again
    <out>/runs/<id>/            checkpoints of one that has not ended

A worker that was orphaned ends itself. SIGINT lets every run write a checkpoint first.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import msgspec

from model.errors import ModelError
from sim.errors import SimError
from sim.experiment.closed_loop_run import ClosedRun
from sim.experiment.run import Run, RunSpec, StoppedError
from sim.experiment.streams import feed_of, stream_of
from sim.experiment.upper_bounds import ORACLE, upper_bound

_TOLD_S: Final = 0.5  # between what a worker says of its progress
_LOOK_S: Final = 1.0  # how often an orphan looks for its parent

_told: Any = None  # queue of (id, examples done, examples in all), in a worker
_stop: Any = None  # event, in a worker


def result_path(out: Path, spec: RunSpec) -> Path:
    """Give where a run's result is."""
    return out / "runs" / f"{spec.id}.json"


def read_result(out: Path, spec: RunSpec) -> dict[str, Any] | None:
    """Give what a run gave, None if it has not ended."""
    path = result_path(out, spec)
    return dict(msgspec.json.decode(path.read_bytes())) if path.exists() else None


class Jobs:
    """What is to be run in one folder.

    Args:
        out: the folder.
        specs: of the runs; those that have a result are left out.
        workers: processes at once.
    """

    def __init__(self, out: Path, specs: Sequence[RunSpec], workers: int) -> None:
        self._out = out
        self.waiting = [spec for spec in specs if not result_path(out, spec).exists()]
        self._workers = max(1, min(workers, len(self.waiting)))
        context = get_context("spawn")
        self._told, self._stop = context.Queue(), context.Event()
        self.failed: dict[str, str] = {}  # run: why
        self._context = context

    def stop(self) -> None:
        """Let every run write its checkpoint and end."""
        self._stop.set()

    def run(self, progress: Callable[[str, int, int], None], ended: Callable[[RunSpec], None]) -> bool:
        """Run all; False if they were stopped before the end.

        Args:
            progress: is told of a run: its id, its examples done and in all.
            ended: is told of each run that has ended.

        A run that raises (its training diverges, the oracle cannot know its world) is put into `failed`, and the others
        go on.
        """
        (self._out / "runs").mkdir(parents=True, exist_ok=True)
        arguments = self._told, self._stop, os.getpid()
        with ProcessPoolExecutor(self._workers, self._context, _begin, arguments) as pool:
            jobs = {pool.submit(_work, spec, self._out): spec for spec in self.waiting}
            try:
                self._follow(jobs, progress, ended)
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return not self._stop.is_set()

    def _follow(
        self,
        jobs: dict[Future[bool], RunSpec],
        progress: Callable[[str, int, int], None],
        ended: Callable[[RunSpec], None],
    ) -> None:
        while jobs:
            with suppress(queue.Empty):
                progress(*self._told.get(timeout=_TOLD_S))
            if self._stop.is_set():
                for job in jobs:
                    job.cancel()
            for job in [job for job in jobs if job.done()]:
                spec = jobs.pop(job)
                try:
                    if not job.cancelled() and job.result():
                        ended(spec)
                except Exception as error:
                    what = (
                        str(error) if isinstance(error, ModelError | SimError) else f"{type(error).__name__}: {error}"
                    )
                    run = " ".join(filter(None, (spec.contestant, spec.variant)))
                    self.failed[spec.id] = f"{run} on {spec.scenario}, seed {spec.seed}: {what}"


def _begin(told: Any, stop: Any, parent: int) -> None:
    global _told, _stop
    _told, _stop = told, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def _work(spec: RunSpec, out: Path) -> bool:
    """Do one run in a worker; False if it was stopped."""
    if _stop.is_set():
        return False
    folder, stream = out / "runs" / spec.id, stream_of(spec)
    said_s = 0.0

    def say(done: int, whole: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _TOLD_S:
            said_s = time.monotonic()
            _told.put((spec.id, done, whole))

    try:
        if spec.contestant == ORACLE:
            result = upper_bound(spec, stream)
        elif stream.closed:
            result = ClosedRun(spec, stream, say, _stop.is_set).run()
        else:
            result = Run(spec, feed_of(spec), folder, say, _stop.is_set).run()
    except StoppedError:
        return False
    part = result_path(out, spec).with_suffix(".part")
    part.write_bytes(msgspec.json.encode(result))
    part.replace(result_path(out, spec))
    rmtree(folder, ignore_errors=True)
    return True
