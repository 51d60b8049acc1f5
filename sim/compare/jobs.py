"""Runs side by side in worker processes. Results are files, so the same command resumes what was stopped.

    <out>/runs/<id>.json        the result of a run, which is not run again
    <out>/runs/<id>/            checkpoints of a run that has not ended

A worker whose parent has died ends itself. After SIGINT every run writes a checkpoint first.
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
from model.storage.durable import replace_file
from sim.errors import SimError
from sim.experiment.closed_loop_run import ClosedRun
from sim.experiment.run import Run, RunSpec, StoppedError
from sim.experiment.streams import feed_of, stream_of
from sim.experiment.upper_bounds import ORACLE, upper_bound

_PROGRESS_S: Final = 0.5  # between two reports of a worker's progress
_PARENT_S: Final = 1.0  # between two looks for the parent

_reports: Any = None  # in a worker: queue of (run, examples done, examples in all)
_stop: Any = None  # in a worker: event


def result_path(out: Path, spec: RunSpec) -> Path:
    """Return the path of a run's result."""
    return out / "runs" / f"{spec.id}.json"


def read_result(out: Path, spec: RunSpec) -> dict[str, Any] | None:
    """Return a run's result; None if it has not ended."""
    path = result_path(out, spec)
    return dict(msgspec.json.decode(path.read_bytes())) if path.exists() else None


class Jobs:
    """The runs of one folder.

    Args:
        out: The folder.
        specs: The runs; those that have a result are skipped.
        workers: The number of processes at once.
    """

    def __init__(self, out: Path, specs: Sequence[RunSpec], workers: int) -> None:
        self._out = out
        self.waiting = [spec for spec in specs if not result_path(out, spec).exists()]
        self._workers = max(1, min(workers, len(self.waiting)))
        context = get_context("spawn")
        self._reports, self._stop = context.Queue(), context.Event()
        self.failed: dict[str, str] = {}  # run: reason
        self._context = context

    def stop(self) -> None:
        """Make every run write its checkpoint and end."""
        self._stop.set()

    def run(self, progress: Callable[[str, int, int], None], ended: Callable[[RunSpec], None]) -> bool:
        """Run all; return False if they were stopped before the end.

        A run that raises (its training diverges, its world is too large for the oracle) is put into `failed`, and the
        others go on.

        Args:
            progress: Called with a run's id, its examples done and in all.
            ended: Called with each run that has ended.
        """
        (self._out / "runs").mkdir(parents=True, exist_ok=True)
        arguments = self._reports, self._stop, os.getpid()
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
                progress(*self._reports.get(timeout=_PROGRESS_S))
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


def _begin(reports: Any, stop: Any, parent: int) -> None:
    global _reports, _stop
    _reports, _stop = reports, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sets `_stop`
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_S)
    os._exit(1)


def _work(spec: RunSpec, out: Path) -> bool:
    """Do one run in a worker; return False if it was stopped."""
    if _stop.is_set():
        return False
    folder, stream = out / "runs" / spec.id, stream_of(spec)
    reported_s = 0.0

    def report(done: int, examples: int) -> None:
        nonlocal reported_s
        if time.monotonic() - reported_s > _PROGRESS_S:
            reported_s = time.monotonic()
            _reports.put((spec.id, done, examples))

    try:
        if spec.contestant == ORACLE:
            result = upper_bound(spec, stream)
        elif stream.closed:
            result = ClosedRun(spec, stream, report, _stop.is_set).run()
        else:
            result = Run(spec, feed_of(spec), folder, report, _stop.is_set).run()
    except StoppedError:
        return False
    replace_file(result_path(out, spec), msgspec.json.encode(result))
    rmtree(folder, ignore_errors=True)
    return True
