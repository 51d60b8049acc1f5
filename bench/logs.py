"""Reading a log: rows a second and peak memory, beside polars reading and sorting the same file.

python bench/logs.py --rows 10000000. A log of clicks is made: users by a square root law, times of 90 days, one row in
twenty out of order. Each way reads it in a process of its own; its peak is that of the process, Python and imports
included. "events" also makes every event, as a replay sends them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl

from sim.sources.open_log import open_log

START_S: Final = 1_700_000_000
DAYS: Final = 90
BLOCK: Final = 1_000_000
COLUMNS: Final = {"user": "user_id", "item": "item_id", "time": "ts"}


def make(path: Path, rows: int, seed: int = 0) -> None:
    """Write a log in blocks."""
    rng = np.random.default_rng(seed)
    users, items = max(1, rows // 10), max(1, rows // 100)
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            ts = START_S + (start + np.arange(n)) * (DAYS * 86_400) // rows
            late = rng.random(n) < 0.05
            ts[late] -= rng.integers(0, 3600, late.sum())
            block = pl.DataFrame(
                {
                    "user_id": (users * rng.random(n) ** 2).astype(np.int64),
                    "item_id": (items * rng.random(n) ** 2).astype(np.int64),
                    "ts": ts,
                }
            )
            block.write_csv(file, include_header=start == 0)


def ours(path: Path) -> int:
    """Read the log."""
    return len(open_log([str(path)], COLUMNS))


def ours_limited(path: Path) -> int:
    """Read its first thousandth."""
    return len(open_log([str(path)], COLUMNS | {"limit": 10_000}))


def events(path: Path) -> int:
    """Read the log and make its events."""
    return sum(1 for _ in open_log([str(path)], COLUMNS).events())


def in_memory(path: Path) -> int:
    """Let polars read and sort it in memory."""
    return len(pl.read_csv(path, infer_schema=False).with_columns(pl.col("ts").cast(pl.Int64)).sort("ts"))


def streamed(path: Path) -> int:
    """Let polars' streaming engine read and sort it, into a file."""
    out = path.with_suffix(".sorted.parquet")
    scan = pl.scan_csv(path, infer_schema=False).with_columns(pl.col("ts").cast(pl.Int64)).sort("ts")
    scan.sink_parquet(out, engine="streaming")
    return int(pl.scan_parquet(out).select(pl.len()).collect().item())


WAYS: Final[dict[str, Callable[[Path], int]]] = {
    "hstu replay reads": ours,
    "--limit 10000": ours_limited,
    "and makes events": events,
    "polars, in memory": in_memory,
    "polars, streaming": streamed,
}


def measured(name: str, path: Path) -> dict[str, Any]:
    """Return rows, seconds and peak MiB of one way, in a process of its own."""
    command = [sys.executable, __file__, "--way", name, "--file", str(path)]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def peak_mib() -> float:
    """Return the peak of this process alone: ru_maxrss would begin with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def run_way(name: str, path: Path) -> None:
    start, begun_cpu = time.perf_counter(), time.process_time()
    rows = WAYS[name](path)
    figures = {
        "rows": rows,
        "s": time.perf_counter() - start,
        "cpu_s": time.process_time() - begun_cpu,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--save", type=Path, help="folder of the figures")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_way(options.way, options.file)
        return
    from report import machine, save, table  # brings torch, which a reader does not load

    print(machine())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        make(path, options.rows)
        size_mib = path.stat().st_size / 2**20
        found = {name: measured(name, path) for name in WAYS}
    print(f"{options.rows:,} rows, {size_mib:,.0f} MiB")
    rows = [
        (
            name,
            f"{options.rows / each['s']:,.0f}",
            f"{each['s']:.1f}",
            f"{each['cpu_s']:.1f}",
            f"{each['peak_mib']:,.0f}",
        )
        for name, each in found.items()
    ]
    table(("way", "rows/s", "s", "CPU s", "peak MiB"), rows)
    save("logs", {"rows": options.rows, "file_mib": size_mib, "ways": found}, options.save)


if __name__ == "__main__":
    main()
