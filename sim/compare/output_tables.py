"""Writes runs.parquet, curves.parquet, clicks.parquet, moments.parquet and about.json from the results of runs."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import polars as pl

from sim.compare.jobs import read_result, result_path
from sim.errors import SimError
from sim.experiment.run import RunSpec
from sim.experiment.streams import stream_of
from sim.report.analysis.results import CLICKS, CURVES, MOMENTS, RUNS

_VERSIONS: Final = ("hstu-stream", "torch", "numpy", "numba", "polars")


def write_tables(out: Path, specs: Sequence[RunSpec]) -> int:
    """Write the Parquet files of all runs that have ended, and return their number."""
    runs, curves, clicks, moments, streams = [], [], [], [], set()
    for spec in specs:
        result = read_result(out, spec)
        if result is None:
            continue
        stream = stream_of(spec)
        items = stream.recorded().items if spec.log and stream.recorded else None
        runs.append({"run": spec.id, "scenario": stream.key, "scenario_title": stream.title, "items": items} | result)
        curves += [{"run": spec.id} | row for row in result["curves"]]
        clicks += [{"run": spec.id} | row for row in result.get("clicks", ())]
        if (stream.key, spec.seed) not in streams:
            streams.add((stream.key, spec.seed))
            moments += [{"scenario": stream.key, "seed": spec.seed} | moment._asdict() for moment in stream.moments]
    tables = (
        ("runs", runs, RUNS),
        ("curves", curves, CURVES),
        ("clicks", clicks, CLICKS),
        ("moments", moments, MOMENTS),
    )
    for name, rows, schema in tables:
        _write(out / f"{name}.parquet", rows, schema)
    return len(runs)


def _write(path: Path, rows: Sequence[Mapping[str, Any]], schema: Mapping[str, pl.DataType]) -> None:
    columns = {name: pl.Series(name, [row.get(name) for row in rows], dtype) for name, dtype in schema.items()}
    part = path.with_suffix(".part")
    pl.DataFrame(columns).write_parquet(part)
    part.replace(path)


def write_about(out: Path, preset: str, planned: int, started_s: float, *, finished: bool) -> None:
    """Write about.json: the command, the machine, versions and times."""
    path = out / "about.json"
    about = {
        "command": " ".join(["hstu", *sys.argv[1:]]),
        "preset": preset,
        "planned": planned,
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS},
        "started": _earlier(path).get("started", _stamp(started_s)),
        "finished": _stamp(time.time()) if finished else "",
    }
    path.write_text(json.dumps(about, indent=1) + "\n")


def make_folder(out: Path, specs: Sequence[RunSpec]) -> None:
    """Make the folder of results, or take that of an earlier comparison.

    Raises:
        SimError: It is no folder, or has content that no comparison has written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise SimError(f"{out} cannot be the folder of results ({error.strerror}); give another --out.") from error
    own = "planned" in _earlier(out / "about.json") or any(result_path(out, spec).exists() for spec in specs)
    if names and not own:
        raise SimError(f"{out} holds {names[0]}, and no comparison that could go on; give a new folder as --out.")


def _earlier(path: Path) -> dict[str, Any]:
    """Return what about.json says; nothing where it is not there, damaged, or of another program."""
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _stamp(wall_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall_s))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
