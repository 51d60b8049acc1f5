"""The charts' points: windows of every trainer's metrics.jsonl under a data directory, read as they grow.

A trainer that continues from a checkpoint rewrites its file; the points are then read again under a new generation.
Series go with their files. No two generations have one number, also of a folder that has been deleted and made anew.
"""

import json
import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from model.evaluation.metrics import HEADLINE

MOST: Final = 400  # points of a trainer; beyond, every other one is dropped
METRICS: Final = (HEADLINE.key, "ndcg@10")  # of each point, behind the number of targets
_COUNTS: Final = ("step", "targets", "event_ms", "loss", "test_share", "items", "born", "wall_s")
Point = dict[str, Any]


@dataclass(slots=True)
class Series:
    """The points of one trainer; a reader that has seen n of a generation needs only those from n on."""

    generation: int
    points: list[Point] = field(default_factory=list)


class MetricsLogs:
    """Follows train/*/metrics.jsonl.

    Args:
        data_dir: Holds the folders of the trainers.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "train"
        self._read: dict[str, tuple[int, int]] = {}  # trainer: inode, bytes read
        self._generations = count()
        self.series: dict[str, Series] = {}

    def look(self) -> None:
        """Read what has been written since the last look, and forget what is no more there."""
        found = {path.parent.name: path for path in sorted(self._folder.glob("[!.]*/metrics.jsonl"))}
        self._read = {name: read for name, read in self._read.items() if name in found}
        self.series = {name: series for name, series in self.series.items() if name in found}
        for name, path in found.items():
            try:
                self._follow(name, path)
            except OSError:  # it was removed a moment ago, or cannot be read now; the next look sees what is there
                continue

    def _follow(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            inode, start = self._read.get(name, (None, 0))
            if inode != stat.st_ino or stat.st_size < start:
                start, self.series[name] = 0, Series(next(self._generations))
            file.seek(start)
            whole = file.read(stat.st_size - start).rpartition(b"\n")
        series = self.series[name]
        self._read[name] = stat.st_ino, start + len(whole[0]) + len(whole[1])
        series.points += [point for line in whole[0].splitlines() if (point := point_of(line)) is not None]
        if len(series.points) > MOST:
            series.generation = next(self._generations)
        while len(series.points) > MOST:
            for dropped, kept in zip(series.points[-2::-2], series.points[-1::-2], strict=False):
                kept["drift"] = dropped["drift"] + kept["drift"]
            series.points = series.points[-1::-2][::-1]  # the newest stays


def point_of(line: bytes) -> Point | None:
    """Return the point of a line; None where it is no line of a trainer.

    `window` maps scorer to age slice to [targets, *METRICS], each null without targets; `drift` has its alarms.
    """
    try:
        entry = json.loads(line)
        window = {
            scorer: {age: [own["targets"], *(own[key] for key in METRICS)] for age, own in scopes["window"].items()}
            for scorer, scopes in entry["retrieval"].items()
        }
        more = {
            "died": entry["expired"] + entry["evicted"],
            "drift": [dict(one) for one in entry["drift"]],
            "recovering": entry.get("drift_recovering", False),  # lines of before have neither
            "test_share": entry.get("test_share", 1.0),
            "window": window,
        }
        return {**{name: entry[name] for name in _COUNTS}, **more}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
