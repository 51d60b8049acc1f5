"""What the stages of bench/gpu.py share: sizes, clocks, and rows that are kept whatever goes wrong in the next one.

    {"device": ..., "<stage>": {"<row>": {figures}, "<row>": {"error": sentence}}}

A row is written to the file before it is measured, as one that did not end, and again after it. So a compiler error
costs one row, and so does a kernel that hangs or kills the process: the stage goes on with the next row.
"""

import gc
import json
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TINY: Final = "--tiny" in sys.argv
if TINY:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # plain is plain PyTorch on a CPU too

import torch  # noqa: E402

DEVICE: Final = torch.device("cpu" if TINY else "cuda")
DTYPE: Final = torch.bfloat16
LOST: Final = 3  # exit code of a stage whose process cannot use the device any more
MEMORY: Final = "OutOfMemoryError"


@dataclass(frozen=True)
class Sizes:
    """The sizes that are measured."""

    lengths: tuple[int, ...] = (8192, 4096, 2048, 1024, 512, 256)
    tokens: int = 32_768  # of a batch of layers
    dim: int = 512
    heads: int = 8
    matmul: int = 8192
    seconds: float = 0.2  # of one measurement
    training: tuple[tuple[str, int, int, int, int, int], ...] = (  # name, layers, tokens, width, heads, sequences
        ("ranking", 3, 2048, 512, 8, 8),
        ("retrieval", 6, 512, 256, 4, 64),
    )
    tuned: tuple[int, ...] = (1024, 4096)


SIZES: Final = (
    Sizes((16, 32), 32, 16, 2, 64, 0.0, (("ranking", 1, 32, 16, 2, 2), ("retrieval", 1, 16, 16, 1, 2)), (16,))
    if TINY
    else Sizes()
)


class Rows:
    """The rows of one stage in the file of all stages.

    Args:
        path: The file, which exists.
        stage: The stage's name.
        until: The time.time() after which no row is begun.
    """

    def __init__(self, path: Path, stage: str, until: float) -> None:
        self._path, self._stage, self._until = path, stage, until
        self._over = False

    def row(self, name: str, measure: Callable[[], dict[str, Any]], limit_s: int = 60) -> dict[str, Any]:
        """Measure a row and return it; a row that is in the file is not measured again."""
        there = self.there()
        if name in there:
            return there[name]
        if time.time() > self._until - 10:
            if not self._over:
                print(f"{self._stage}: {name} and what follows is left out, the time given has run out.", flush=True)
            self._over = True
            return {"error": "left out"}
        self._write(
            name, {"error": f"it did not end: it took over {limit_s} s or all that were left, or broke the process"}
        )
        if not TINY:
            signal.alarm(limit_s)  # ends the process, wherever it hangs
        try:
            row = measure()
        except Exception as error:
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        signal.alarm(0)
        self._write(name, row)
        self._clean(name, row)
        return row

    def there(self) -> dict[str, Any]:
        """Return the rows in the file."""
        rows: dict[str, Any] = json.loads(self._path.read_text()).get(self._stage, {})
        return rows

    def _write(self, name: str, row: dict[str, Any]) -> None:
        figures = json.loads(self._path.read_text())
        figures.setdefault(self._stage, {})[name] = row
        write(self._path, figures)

    def _clean(self, name: str, row: dict[str, Any]) -> None:
        """Free the memory that a row took of the device; if the device is lost, end this process."""
        if "error" in row:
            print(f"{self._stage}: {name}: {row['error']}", flush=True)
        gc.collect()
        if not torch.cuda.is_initialized():
            return
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            sys.exit(LOST)


def write(path: Path, figures: dict[str, Any]) -> None:
    """Replace the file in one step."""
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(figures, indent=1) + "\n")
    aside.replace(path)


def failures(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and error of each row that failed; too little memory for the plain path is a result."""
    for stage, rows in figures.items():
        for name, row in rows.items() if isinstance(rows, dict) else ():
            if "error" in row and not row["error"].startswith(MEMORY):
                yield f"{stage}, {name}", row["error"]


def milliseconds(run: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Time a function from an idle device to an idle device, Python's launches included: at least five runs.

    `device` is the time of the device alone: runs are queued behind a pause, so that it never waits for Python.
    """
    run()
    times: list[float] = []
    began = time.monotonic()
    while len(times) < (1 if TINY else 5) or time.monotonic() - began < seconds:
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        times.append(1000 * (time.perf_counter() - start))
    median = statistics.median(times)
    return {"min": min(times), "median": median, "max": max(times), "device": _queued_ms(run, median)}


def _queued_ms(run: Callable[[], Any], host_ms: float) -> float:
    if TINY:
        return host_ms
    runs = max(1, min(8, int(100 / host_ms)))
    found = []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(2e6 * 1.5 * host_ms * runs))  # cycles, at 2 GHz or less
        start.record()
        for _ in range(runs):
            run()
        end.record()
        _wait()
        found.append(start.elapsed_time(end) / runs)
    return statistics.median(found)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def line(name: str, *cells: float | str) -> None:
    """Print a line of a table that grows."""
    texts = [cell if isinstance(cell, str) else f"{cell:,.0f}" if cell >= 1000 else f"{cell:.4g}" for cell in cells]
    print(name.ljust(36), *(text.rjust(11) for text in texts), flush=True)
