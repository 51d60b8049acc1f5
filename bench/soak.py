"""Hot swaps under load: requests that fail, memory, and latency before, during and after ten thousand of them.

    python bench/soak.py --swaps 10000 --save bench/results

A real server process over the stores and the snapshot of a short replay of MovieLens. Each swap does what a trainer
does: it writes a new snapshot, of other bytes than all before, moves `latest` to it and deletes old ones; it has
happened when the server answers from it, and the next one begins. Clients ask /topk and /rank all the time, each as
soon as it is answered. Before and after are the same clients without swaps. Memory is what the process has resident.
The status is 1 if a request failed, or if memory grew by more than MOST_GROWTH from the second tenth of the swaps to
the last one.
"""

import argparse
import asyncio
import itertools
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from report import machine, save, table
from serve import HERE, known_ids, make_data, questions, served

from model.storage.aliases import LATEST, gc, move, resolve
from model.storage.snapshot import load_snapshot, write_snapshot

EVENTS: Final = 5_000
KEPT: Final = 3
MOST_GROWTH: Final = 0.05
PATIENCE_S: Final = 60.0  # for one swap
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
Swap = Callable[[int], str]


class Load(NamedTuple):
    """What clients met in one part of the run."""

    answers_ms: list[float]
    failed: Counter[str]


class Soaked(NamedTuple):
    """A run: its loads by part, seconds from each snapshot's writing to its first answer, resident MiB by swap."""

    loads: dict[str, Load]
    swaps_s: list[float]
    resident_mib: list[float]

    @property
    def failed(self) -> Counter[str]:
        """Requests that were not answered with 200, by what came instead."""
        return sum((load.failed for load in self.loads.values()), Counter[str]())

    @property
    def tenths_mib(self) -> tuple[float, float]:
        """Median resident MiB of the second tenth of the swaps, when all is warm, and of the last tenth."""
        tenth = max(1, len(self.resident_mib) // 10)
        return tuple(map(statistics.median, (self.resident_mib[tenth : 2 * tenth], self.resident_mib[-tenth:])))  # type: ignore[return-value]


class Connection:
    """One kept connection; opened anew after a failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            return int(head[9:12]), await reader.readexactly(int(found[1]) if found else 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class Clients:
    """Clients that ask for as long as they are not cancelled; what they meet is noted under the part of the run."""

    def __init__(self, port: int, ask: list[Iterator[str]]) -> None:
        self.loads = {part: Load([], Counter()) for part in ("before", "during", "after")}
        self.part = "before"
        self._port, self._ask = port, ask

    async def run(self) -> None:
        """Ask until cancelled."""
        await asyncio.gather(*(self._client(paths) for paths in self._ask))

    async def _client(self, paths: Iterator[str]) -> None:
        connection = Connection(self._port)
        try:
            for path in paths:
                load, start_s = self.loads[self.part], time.perf_counter()
                try:
                    status, _ = await connection.get(path)
                except (OSError, EOFError, ValueError) as error:
                    load.failed[repr(error)] += 1
                    continue
                if status == 200:
                    load.answers_ms.append(1000 * (time.perf_counter() - start_s))
                else:
                    load.failed[f"status {status}"] += 1
        finally:
            connection.close()


async def soak(port: int, pid: int, swap: Swap, ask: list[Iterator[str]], swaps: int, quiet_s: float) -> Soaked:
    """Swap under load.

    Args:
        port: Where the server listens.
        pid: Its process, whose memory is read.
        swap: Publishes another snapshot, by its number, and returns its id.
        ask: The paths that each client asks for.
        swaps: How many.
        quiet_s: Seconds before and after them, without swaps.
    """
    clients, probe = Clients(port, ask), Connection(port)
    running = asyncio.create_task(clients.run())
    swaps_s, resident_mib = list[float](), list[float]()
    try:
        await asyncio.sleep(quiet_s)
        clients.part = "during"
        for number in range(1, swaps + 1):
            name, start_s = await asyncio.to_thread(swap, number), time.perf_counter()
            await asyncio.wait_for(_until_served(probe, name), PATIENCE_S)
            swaps_s.append(time.perf_counter() - start_s)
            resident_mib.append(resident(pid))
        clients.part = "after"
        await asyncio.sleep(quiet_s)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        probe.close()
    return Soaked(clients.loads, swaps_s, resident_mib)


async def _until_served(probe: Connection, name: str) -> None:
    while json.loads((await probe.get("/snapshot"))[1]).get("id") != name:
        await asyncio.sleep(0.005)


def resident(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def publishing(directory: Path) -> Swap:
    """Return what writes a snapshot like the newest one, its item rows a hair larger, as the next one of its run."""
    first = load_snapshot(resolve(directory, LATEST))

    def swap(number: int) -> str:
        arrays = {**first.arrays, "items.weight": first.arrays["items.weight"] * np.float32(1 + 1e-6 * number)}
        manifest = msgspec.structs.replace(first.manifest, step=first.manifest.step + number, created=time.time())
        name = write_snapshot(directory, arrays=arrays, manifest=manifest).name
        move(directory, LATEST, name)
        gc(directory, KEPT)
        return name

    return swap


def rows(found: Soaked) -> list[tuple[object, ...]]:
    """Return a row for each part of the run."""
    return [
        (part, len(load.answers_ms), sum(load.failed.values()), *np.percentile(load.answers_ms, (50, 99)).tolist())
        for part, load in found.loads.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=2, help="of each kind of request")
    parser.add_argument("--quiet-s", type=float, default=30.0, help="seconds of load before and after the swaps")
    parser.add_argument("--data", type=Path, help="folder for stores and snapshots; default: a temporary one")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hstu-bench-") as temporary:
        data = (given.data or Path(temporary)).resolve()
        make_data(HERE, data, EVENTS)
        with served(HERE, data, HSTU_SERVE__POLL_S="0.02") as (port, pid):
            known = known_ids(EVENTS)
            ask = [questions(known, what, n) for what, n in itertools.product(("topk", "rank"), range(given.clients))]
            asyncio.run(soak(port, pid, publishing(data / "snapshots" / "silu"), ask, 5, 3.0))  # compiles, fills caches
            swap = publishing(data / "snapshots" / "silu")
            found = asyncio.run(soak(port, pid, swap, ask, given.swaps, given.quiet_s))
    told(found, given.swaps, given.save)
    early, late = found.tenths_mib
    if found.failed or late > (1 + MOST_GROWTH) * early:
        raise SystemExit(1)


def told(found: Soaked, swaps: int, folder: Path | None) -> None:
    """Print and save what came of it."""
    early, late = found.tenths_mib
    took = [1000 * q for q in np.percentile(found.swaps_s, (50, 99)).tolist()]
    print(f"{swaps:,} swaps, written to answered in {took[0]:.0f} ms (p99 {took[1]:.0f}); {machine()}")
    heads = ("clients", "answers", "failed", "p50 ms", "p99 ms")
    table(heads, rows(found))
    growth = f"{late / early - 1:+.1%}"
    print(f"resident MiB: {early:.1f} in the second tenth of the swaps, {late:.1f} in the last ({growth})")
    for what, count in found.failed.items():
        print(f"failed {count} times: {what}")
    figures = {
        "swaps": swaps,
        "rows": [dict(zip(heads, row, strict=True)) for row in rows(found)],
        "failed": dict(found.failed),
        "swap_ms": took,
        "resident_mib": [early, late],
        "course_mib": found.resident_mib[:: max(1, swaps // 100)],
    }
    save("soak", figures, folder)


if __name__ == "__main__":
    main()
