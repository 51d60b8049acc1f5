"""What every benchmark prints and saves: the machine, a table of min, median and max, one JSON file.

With one thread, times are CPU times of the process, which equal the wall clock's if nothing else runs: on a shared
machine the wall clock would measure the other processes as well. With more threads they are wall-clock times.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """Return the processor, its cores, the threads that PyTorch uses, and the load."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch thread(s), torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def clock_s() -> float:
    """Return the time by which benchmarks measure, in seconds from an arbitrary start."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Return min, median and max."""
    return {"min": min(numbers), "median": statistics.median(numbers), "max": max(numbers)}


def seconds(run: Callable[[], Any], repeats: int, warm: int = 1) -> list[float]:
    """Return the times of `repeats` runs of a function, after `warm` runs that do not count."""
    for _ in range(warm):
        run()
    times = []
    for _ in range(repeats):
        start = clock_s()
        run()
        times.append(clock_s() - start)
    return times


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their heads, the first column left-aligned."""
    cells = [list(heads), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join((row[0].ljust(len(first)), *rest)), flush=True)


def save(what: str, figures: dict[str, Any], folder: Path | None) -> None:
    """Write <folder>/<what>_<cores>cpu_<date>.json, if a folder is given."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{what}_{os.cpu_count()}cpu_{time.strftime('%Y-%m-%d')}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    print(f"written: {path}")


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
