"""The charts' points: windows of every trainer's metrics.jsonl under a data directory, read as they grow.

A trainer that continues from a checkpoint rewrites its file; the points are then read again under a new generation.
"""

import json
from dataclasses import dataclass, field
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

    generation: int = 0
    points: list[Point] = field(default_factory=list)


class MetricsLogs:
    """Follows train/*/metrics.jsonl.

    Args:
        data_dir: Holds the folders of the trainers.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "train"
        self._read: dict[Path, tuple[int, int]] = {}  # file: inode, bytes read
        self.series: dict[str, Series] = {}

    def look(self) -> None:
        """Read what has been written since the last look."""
        for path in sorted(self._folder.glob("*/metrics.jsonl")):
            try:
                self._follow(path)
            except OSError:  # it was replaced or removed; the next look sees what is there
                self._read.pop(path, None)

    def _follow(self, path: Path) -> None:
        series = self.series.setdefault(path.parent.name, Series())
        with path.open("rb") as file:
            stat = path.stat()
            inode, start = self._read.get(path, (stat.st_ino, 0))
            if inode != stat.st_ino or stat.st_size < start:
                start, series.generation, series.points = 0, series.generation + 1, []
            file.seek(start)
            whole = file.read(stat.st_size - start).rpartition(b"\n")
        self._read[path] = stat.st_ino, start + len(whole[0]) + len(whole[1])
        series.points += [point for line in whole[0].splitlines() if (point := point_of(line)) is not None]
        if len(series.points) > MOST:
            series.generation += 1
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
