"""Latency of queries over HTTP, from a real server process over a real snapshot and the users' stores.

    topk     GET /topk?user=U&k=10
    rank     GET /rank of 100 items
    health   GET /health on a connection of its own, while the clients ask /rank

Each client keeps its connection and asks again as soon as it is answered. The clients are one process, which shares the
machine's cores with the server. --against PATH measures another checkout's server too, in turns with this one's.
--data FOLDER keeps the stores and snapshots of each, so that a second run needs no training. All users and items that
are asked for are among those of the ratings.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product, repeat
from pathlib import Path

import numpy as np
from report import machine, save, table

from sim.sources.datasets import load_dataset
from sim.sources.log_columns import LogSettings
from sim.sources.source import replay_events

HERE = Path(__file__).parents[1]
CANDIDATES = 100
Known = tuple[list[str], list[str]]  # users and items
Ask = Callable[[str], Awaitable[float]]


def make_data(checkout: Path, folder: Path, events: int) -> None:
    """Replay ratings of MovieLens through one process: a snapshot and stores, unless they are there."""
    if (folder / "snapshots").exists():
        return
    flags = ["--dataset", "movielens", "--limit", str(events), "--direct", "--data-dir", str(folder)]
    subprocess.run(
        [*hstu(), "replay", *flags], cwd=checkout, env=environment(checkout), check=True, stdout=subprocess.DEVNULL
    )


def hstu() -> list[str]:
    return [sys.executable, "-m", "sim.main"]


def environment(checkout: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}


@contextmanager
def served(checkout: Path, folder: Path, **settings: str) -> Iterator[tuple[int, int]]:
    """Run a server of a checkout under settings of the environment, and yield its port and process id."""
    log = folder / "serve.log"
    with log.open("w") as out:
        command = [*hstu(), "serve", "--port", "0", "--data-dir", str(folder)]
        process = subprocess.Popen(command, cwd=checkout, env=environment(checkout) | settings, stdout=out, stderr=out)
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield int(found[1]), process.pid
        finally:
            process.terminate()
            process.wait()


def known_ids(events: int) -> Known:
    """Return the users and the items of the first ratings."""
    log = load_dataset("movielens", LogSettings(limit=events))
    sent = (event.value for event in replay_events(log, 1) if event.topic == "actions" and event.key)
    rated = [json.loads(value or b"") for value in sent]
    users, items = ({each[name]: None for each in rated} for name in ("user_id", "item_id"))
    return list(users), list(items)


def questions(known: Known, what: str, seed: int) -> Iterator[str]:
    chance, (users, items_known) = random.Random(seed), known
    while True:
        user, items = chance.choice(users), ",".join(chance.sample(items_known, CANDIDATES))
        yield f"/topk?user={user}&k=10" if what == "topk" else f"/rank?user={user}&items={items}"


async def asking(port: int) -> Ask:
    """Open a connection, and return a function that asks for a path and returns the milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(path: str) -> float:
        start_s = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))  # type: ignore[index]
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path[:80]}: {head[:60]!r}")
        return 1000 * (time.perf_counter() - start_s)

    return ask


async def load(port: int, known: Known, what: str, clients: int, seconds: float) -> tuple[list[float], list[float]]:
    """Return the milliseconds of all requests of the clients, and those of /health beside them."""
    until_s = time.perf_counter() + seconds

    async def client(paths: Iterator[str], pause_s: float = 0) -> list[float]:
        ask, taken = await asking(port), []
        while time.perf_counter() < until_s:
            taken.append(await ask(next(paths)))
            await asyncio.sleep(pause_s)
        return taken

    probe = client(repeat("/health"), 0.02)
    *answers, health = await asyncio.gather(*(client(questions(known, what, n)) for n in range(clients)), probe)
    return [each for answer in answers for each in answer], health


def row(name: str, what: str, clients: int, taken: Sequence[float], seconds: float) -> tuple[object, ...]:
    return (name, what, clients, len(taken) / seconds, *(float(np.percentile(taken, p)) for p in (50, 99)), max(taken))


def measure(ports: dict[str, int], known: Known, seconds: float, turns: int) -> list[tuple[object, ...]]:
    """Return a row for each load and server, which take turns."""
    rows = []
    for port, what in product(ports.values(), ("topk", "rank")):
        asyncio.run(load(port, known, what, 2, 3.0))  # compiles, and fills caches
    for what in ("topk", "rank"):
        for clients in (1, 8, 32):
            taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ports}
            for _ in range(turns):
                for name, port in ports.items():
                    found = asyncio.run(load(port, known, what, clients, seconds))
                    for all_of_it, more in zip(taken[name], found, strict=True):
                        all_of_it += more
            rows += [row(name, what, clients, answers, turns * seconds) for name, (answers, _) in taken.items()]
            if (what, clients) == ("rank", 32):
                rows += [row(name, "health", 1, health, turns * seconds) for name, (_, health) in taken.items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured too")
    parser.add_argument("--events", type=int, default=20_000, help="ratings in the stores")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load in each turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder for stores and snapshots; default: a temporary one")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    checkouts = {"this": HERE, **({"against": given.against.resolve()} if given.against else {})}
    with ExitStack() as stack:
        data = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hstu-bench-")))
        ports = {}
        for name, checkout in checkouts.items():
            folder = data.resolve() / name
            make_data(checkout, folder, given.events)
            ports[name], _ = stack.enter_context(served(checkout, folder))
        print(f"{given.events:,} ratings, {given.turns} turns of {given.seconds:g} s; {machine()}")
        rows = measure(ports, known_ids(given.events), given.seconds, given.turns)
    heads = ("server", "query", "clients", "answers/s", "p50 ms", "p99 ms", "max ms")
    table(heads, rows)
    save("serve", {"rows": [dict(zip(heads, each, strict=True)) for each in rows]}, given.save)


if __name__ == "__main__":
    main()
