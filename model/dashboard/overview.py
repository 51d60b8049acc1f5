"""Everything that the dashboard shows of the present, looked at once for all who watch."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from model.config import ServeSettings
from model.dashboard.delays import Counts, Delays
from model.dashboard.last_letters import LastLetters, LettersReader
from model.dashboard.metrics_logs import MetricsLogs, Series
from model.dashboard.processes import Processes
from model.dashboard.snapshot_list import SnapshotList
from model.errors import ModelError

_FRESH_S: Final = 1.0
_UNKNOWN: Final = math.nan
_SILENT: Final = (None, "starting", "silent", "lost")  # kinds of processes that should answer


class Overview:
    """Looks at a data directory, at processes and at dead letters, at most once a second.

    Args:
        settings: Table [serve].
        data_dir: Holds trainers' folders and snapshots.
        letters: Reads the last dead letters; None where no Kafka is named.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: ServeSettings,
        data_dir: Path,
        letters: LettersReader | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logs = MetricsLogs(data_dir)
        self._processes = Processes(settings.watch, data_dir / "train", clock)
        self._snapshots = SnapshotList(data_dir / "snapshots" / settings.name)
        self._delays, self._name = Delays(), settings.name
        self._letters, self._clock = LastLetters(letters, clock), clock
        self._lock = threading.Lock()
        self._at_s = float("-inf")
        self._now: dict[str, Any] = {}

    def look(self, served: int | None = None) -> tuple[dict[str, Any], dict[str, Series]]:
        """Return the present figures and the series of all trainers; never raises for what cannot be read.

        Args:
            served: Examples that the snapshot in place had learned.
        """
        with self._lock:
            if self._clock() >= self._at_s + _FRESH_S:
                self._logs.look()
                processes = self._processes.look()
                delays = self._delays.look(self._clock(), _counts(processes, self._name, served))
                partly = unknown(processes)
                seen = {"processes": processes, "unknown": partly, "delays": delays, "letters": self._letters.look()}
                self._now = {**seen, **self._listed()}
                self._at_s = self._clock()
            series = {name: Series(one.generation, list(one.points)) for name, one in self._logs.series.items()}
            return self._now, series

    def _listed(self) -> dict[str, Any]:
        try:
            return {"snapshots": self._snapshots.look(), "snapshots_problem": None}
        except ModelError:
            return {"snapshots": [], "snapshots_problem": "The folder of the snapshots cannot be read."}


def _counts(processes: Sequence[Mapping[str, Any]], name: str, served: int | None) -> dict[str, Counts | None]:
    """Return the counts of each way of delays.py; None where one of them is not known.

    What has been made and taken is known where the workers that answer have all partitions open, whoever is silent.
    """
    workers = [one for one in processes if one["kind"] == "worker"]
    if _unread(workers):
        return dict.fromkeys(("taken", "learnt", "served"))
    events, lag, examples = (_sum(workers, key) for key in ("events", "lag", "examples"))
    trainer = [one for one in processes if one["kind"] == "trainer" and one["name"] == name]
    learned, *behind = (_sum(trainer, key) for key in ("learned", "lag", "waiting"))
    come = learned + sum(behind)
    ways = {
        "taken": Counts(events + lag, events + lag, events),
        "learnt": Counts(examples, come, learned),
        "served": Counts(examples, come, _UNKNOWN if served is None else served),
    }
    return {way: None if any(map(math.isnan, counts)) else counts for way, counts in ways.items()}


def unknown(processes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why figures of processes are not of all of them, for the page; None where they are."""
    workers = [one for one in processes if one["kind"] == "worker"]
    silent = sum(one["kind"] in _SILENT for one in processes)
    unread = _unread(workers)
    blind = [one["address"] for one in processes if one["kind"] in ("worker", "trainer") and one["lag"] is None]
    if silent:
        return f"{silent} of {len(processes)} processes give no answer"
    if unread:
        of = max(one["partitions"] for one in workers)
        return f"{unread:g} of {of:g} partitions are open at no worker that answers"
    return f"Kafka has not told {', '.join(blind)} of late what is still to be read" if blind else None


def _unread(workers: Sequence[Mapping[str, Any]]) -> float:
    """Return how many partitions none of the workers has open."""
    return float(max((one["partitions"] for one in workers), default=0.0) - sum(one["open"] for one in workers))


def _sum(processes: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the sum of a figure of processes; not a number where there is none, or one does not know it."""
    values = [one[key] for one in processes]
    return sum(values) if values and None not in values else _UNKNOWN
