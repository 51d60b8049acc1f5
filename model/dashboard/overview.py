"""Everything that the dashboard shows of the present, looked at once for all who watch."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from model.config import ServeSettings
from model.dashboard.delays import Delays
from model.dashboard.last_letters import LastLetters, LettersReader
from model.dashboard.metrics_logs import MetricsLogs, Series
from model.dashboard.processes import Processes
from model.dashboard.snapshot_list import SnapshotList
from model.errors import ModelError

_FRESH_S: Final = 1.0


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
                seen = {"processes": processes, "delays": delays, "letters": self._letters.look()}
                self._now = {**seen, **self._listed()}
                self._at_s = self._clock()
            series = {name: Series(one.generation, list(one.points)) for name, one in self._logs.series.items()}
            return self._now, series

    def _listed(self) -> dict[str, Any]:
        try:
            return {"snapshots": self._snapshots.look(), "snapshots_problem": None}
        except ModelError:
            return {"snapshots": [], "snapshots_problem": "The folder of the snapshots cannot be read."}


def _counts(
    processes: Sequence[Mapping[str, Any]], name: str, served: int | None
) -> dict[str, tuple[float, float] | None]:
    """Return how many were made and done of each way of delays.py; None where a figure is not known."""
    workers = [(one["events"], one["lag"]) for one in processes if one["kind"] == "worker"]
    trainer = next((one for one in processes if one["kind"] == "trainer" and one["name"] == name), None)
    behind = (trainer["learned"], trainer["lag"], trainer["waiting"]) if trainer else (None,)
    taken = sum(events for events, _ in workers)
    made = None if None in behind else sum(behind)
    lag = None if not workers or any(None in one for one in workers) else sum(lag for _, lag in workers)
    return {
        "taken": None if lag is None else (taken + lag, taken),
        "learnt": None if made is None else (made, behind[0]),
        "served": None if made is None or served is None else (made, served),
    }
