"""What processes say and take while they run, once a second, and how long counts take from one of them to the next."""

import asyncio
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

MIB = 2**20
_SAMPLE = re.compile(r"^(hstu_\w+?)(?:_total)?(?:\{.*\})? (\S+)$", re.MULTILINE)


def scraped(port: int) -> dict[str, float]:
    """Return the metrics of a process, each summed over its labels; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        found[name] = found.get(name, 0.0) + float(value)
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has taken so far, what its ended children took included."""

    cpu_s: float
    rss_mib: float
    written_mib: float


def use_of(pid: int) -> Use:
    """Return what a process has taken; nothing for one that has ended."""
    try:
        process = psutil.Process(pid)
        times, resident, written = process.cpu_times(), process.memory_info().rss, process.io_counters().write_bytes
    except psutil.NoSuchProcess:
        return Use(0.0, 0.0, 0.0)
    return Use(sum(times[:4]), resident / MIB, written / MIB)


def size_mib(folder: Path) -> float:
    """Return the bytes of all files below a folder, in MiB."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total / MIB


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment."""

    at_s: float
    worker: Mapping[str, float]
    trainer: Mapping[str, float]
    served_step: int  # of the snapshot that answers
    uses: Mapping[str, Use]
    in_use_mib: float  # of the machine's memory, without what the page cache could give back
    disk_mib: float


@dataclass
class Watch:
    """Samples of a worker, a trainer and all processes.

    Args:
        worker_port: Port of the worker's metrics.
        trainer_port: Port of the trainer's metrics.
        pids: Processes by name.
        folder: Whose size on the disk is watched.
    """

    worker_port: int
    trainer_port: int
    pids: Mapping[str, int]
    folder: Path
    served_step: int = 0  # set by who asks the server
    samples: list[Sample] = field(default_factory=list)

    def sample(self) -> None:
        """Take a sample, and keep it if both processes answer."""
        worker, trainer = scraped(self.worker_port), scraped(self.trainer_port)
        memory = psutil.virtual_memory()
        uses = {name: use_of(pid) for name, pid in self.pids.items()}
        last = self.samples[-1] if self.samples else None
        disk = last.disk_mib if last and len(self.samples) % 5 else size_mib(self.folder)
        in_use = (memory.total - memory.available) / MIB
        found = Sample(time.time(), worker, trainer, self.served_step, uses, in_use, disk)
        if worker and trainer:
            self.samples.append(found)

    async def go_on(self, until: asyncio.Event) -> None:
        """Take a sample a second."""
        while not until.is_set():
            start_s = time.time()
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(max(0.0, 1 - (time.time() - start_s)))

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return the times of the samples, and the examples made, learnt and served by then."""
        samples = self.samples
        steps, learnt = (
            np.array([each.trainer[name] for each in samples]) for name in ("hstu_steps", "hstu_learned_examples")
        )
        return {
            "at_s": np.array([each.at_s for each in samples]),
            "made": np.array([each.worker["hstu_examples"] for each in samples]),
            "learnt": learnt,
            "served": np.interp([each.served_step for each in samples], *_rising(steps, learnt)),
        }


def _rising(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = np.concatenate(([True], np.diff(x) > 0))
    return x[kept], y[kept]


def reached_s(
    counts: NDArray[np.float64], at_s: NDArray[np.float64], curve: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return when a curve that never falls first has each count; inf where it has not yet."""
    first = np.searchsorted(curve, counts, side="left")
    found = np.full(len(counts), np.inf)
    inside = (first > 0) & (first < len(curve))
    i, wanted = first[inside], counts[inside]
    part = (wanted - curve[i - 1]) / (curve[i] - curve[i - 1])
    found[inside] = at_s[i - 1] + part * (at_s[i] - at_s[i - 1])
    found[first == 0] = at_s[0]
    return found
