"""Whether Kafka, a worker, a trainer and a server keep up with a live stream on a few cores, and what each part takes.

    python bench/keep_up.py --users 1000000 --items 1000000 --rate 1000 --seconds 600
    python bench/keep_up.py --search         the largest rate that holds, in stages of --seconds

All are processes on --cores cores, and so is what sends events and asks. The start is warm (live_system.py). After
--warm seconds of the stream it is watched for --seconds; then the stream goes on until what was made by then is served.

    fresh    from the sending of a new user's click until /topk answers this user by the model
    learnt   from the moment an example is made, its labels final, until the trainer has learned it
    served   from the same moment until /topk answers by a snapshot that has learned it
    topk     GET /topk of users of the stream, --requests a second, from when each was due

A rate holds if fresh's p99 is below 1 s, served's below 15 s and topk's below 100 ms, at least 97 % of the events are
taken in, and no backlog grows: the worker's (records) and the trainer's (examples) have a median in the last third of
the time that is at most 1.5 times that of the third before, or below three seconds of the stream. Counts are read once
a second, so learnt and served are up to 3 s too long. PYTHONPATH=../before measures another checkout.
"""

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from asking import Asking, Times
from live_system import Sizes, System, running, sending
from numpy.typing import NDArray
from report import machine, save, table
from watching import Sample, Watch, reached_s

SETTINGS = {  # labels become final within the run, snapshots come often, steps are large; the rest are the defaults
    "stream.lateness_s": "2",
    "stream.action_window_s": "20",
    "stream.gather_s": "5",
    "train.snapshot_s": "5",
    "train.keep_snapshots": "3",
    "train.batch_examples": "64",
}
LIMITS_S = {"fresh": 1.0, "served": 15.0, "topk": 0.1}
TAIL_S = 30.0
Array = NDArray[np.float64]


@dataclass
class Stage:
    """One rate for some time."""

    rate: float
    begun_s: float
    ended_s: float
    watch: Watch
    seconds: dict[str, Array]  # what fresh, learnt, served and topk took
    failures: int

    @property
    def samples(self) -> list[Sample]:
        """The samples of the time that counts."""
        return [each for each in self.watch.samples if self.begun_s <= each.at_s <= self.ended_s]

    @property
    def taken_share(self) -> float:
        """Events that the worker has taken, of those that should have been sent."""
        first, last = self.samples[0], self.samples[-1]
        return (last.worker["hstu_events"] - first.worker["hstu_events"]) / (last.at_s - first.at_s) / self.rate

    def backlogs(self) -> dict[str, Array]:
        """Return what waits for the worker, records, nan while Kafka is silent, and for the trainer, examples."""
        behind = [each.worker["hstu_examples"] - each.trainer["hstu_learned_examples"] for each in self.samples]
        return {
            "worker": np.array([each.worker.get("hstu_lag", np.nan) for each in self.samples]),
            "trainer": np.array(behind),
        }

    def faults(self) -> list[str]:
        """Return why the rate does not hold; nothing where it does."""
        found = [] if self.taken_share >= 0.97 else [f"{self.taken_share:.0%} of the events taken"]
        for name, limit in LIMITS_S.items():
            if not (p99 := percentile(self.seconds[name], 99)) < limit:
                found.append(f"{name} p99 {p99:.3g} s")
        for name, backlog in self.backlogs().items():
            _, middle, last = (float(np.nanmedian(part)) for part in np.array_split(backlog, 3))
            if last > max(1.5 * middle, 3 * self.rate):
                found.append(f"the {name}'s backlog grows, {middle:,.0f} to {last:,.0f}")
        return found + ([f"{self.failures} requests without an answer"] if self.failures else [])


def percentile(values: Array, share: float) -> float:
    """Return the smallest value that is not exceeded by a share, in percent, of all."""
    return float(np.percentile(values, share, method="higher")) if len(values) else float("inf")


async def stage(system: System, sizes: Sizes, rate: float, given: argparse.Namespace) -> Stage:
    """Run one rate, and return what was seen."""
    watch, ended = system.watch, asyncio.Event()
    asking = Asking(system.server_port, system.bootstrap, sizes.users, sizes.items, given.requests)

    def seen(step: int) -> None:
        watch.served_step = max(watch.served_step, step)

    with sending(system.bootstrap, rate, sizes, seed=int(time.time())) as pid:
        watch.pids = {**watch.pids, "events": pid, "asking": os.getpid()}
        others = [asyncio.create_task(asking.run(ended, seen)), asyncio.create_task(watch.go_on(ended))]
        await asyncio.sleep(given.warm)
        begun_s = time.time()
        await asyncio.sleep(given.seconds)
        ended_s = time.time()
        while time.time() < ended_s + TAIL_S and np.isinf(since_made(watch, begun_s, ended_s)["served"]).any():
            await asyncio.sleep(1)
        ended.set()
        await asyncio.gather(*others)

    def within(times: Times) -> Array:
        return np.array([took for due_s, took in times if begun_s <= due_s <= ended_s])

    seconds = {"fresh": within(asking.fresh), **since_made(watch, begun_s, ended_s), "topk": within(asking.topk)}
    return Stage(rate, begun_s, ended_s, watch, seconds, asking.failures)


def since_made(watch: Watch, begun_s: float, ended_s: float) -> dict[str, Array]:
    """Return how long after they were made the examples of some time were learned, and served; inf: not yet."""
    curves = watch.curves()
    at_s, made = curves["at_s"], curves["made"]
    first, last = np.interp([begun_s, ended_s], at_s, made)
    counts = np.linspace(first, last, 1002)[1:-1]
    when_s = reached_s(counts, at_s, made)
    return {name: reached_s(counts, at_s, curves[name]) - when_s for name in ("learnt", "served")}


def drained(system: System, rate: float) -> None:
    """Wait until the trainer has learned nearly all, so that the next rate begins without a backlog."""
    give_up_s = time.time() + 600
    while time.time() < give_up_s:
        system.watch.sample()
        last = system.watch.samples[-1]
        if (
            last.worker["hstu_examples"] - last.trainer["hstu_learned_examples"] < rate
            and last.worker.get("hstu_lag", np.inf) < rate
        ):
            return
        time.sleep(1)


async def search(system: System, sizes: Sizes, given: argparse.Namespace) -> list[Stage]:
    """Run rates until the largest one that holds is known within a fifth."""
    holds, fails, stages = 0.0, float("inf"), []
    rate = given.rate
    while fails > 1.2 * holds and len(stages) < 12:
        stages.append(await stage(system, sizes, rate, given))
        show(stages[-1])
        if stages[-1].faults():
            fails = rate
        else:
            holds = rate
        await asyncio.to_thread(drained, system, rate)
        rate = 2 * rate if fails == float("inf") else (holds * fails) ** 0.5 if holds else rate / 2
    print(f"the largest rate that held: {holds:,.0f} events/s")
    return stages


def show(found: Stage) -> None:
    """Print what was seen at one rate."""
    faults = found.faults()
    print(f"\n{found.rate:,.0f} events/s, {found.taken_share:.1%} taken: {'; '.join(faults) or 'holds'}", flush=True)
    table(("seconds", "p50", "p99", "max", "of"), [(name, *each.values()) for name, each in spreads(found).items()])
    table(("after s", "worker behind", "trainer behind", "memory, MiB", "disk, MiB"), over_time(found))
    table(("process", "of a core", "resident, MiB", "grows, MiB/min", "written, MiB/s"), [*uses(found)])


def spreads(found: Stage) -> dict[str, dict[str, float]]:
    """Return the spread of each time."""
    return {
        name: {"p50": percentile(each, 50), "p99": percentile(each, 99), "max": percentile(each, 100), "n": len(each)}
        for name, each in found.seconds.items()
    }


def over_time(found: Stage) -> list[tuple[object, ...]]:
    """Return rows of about ten moments."""
    samples, backlogs = found.samples, found.backlogs()
    rows = []
    for i in np.unique(np.linspace(0, len(samples) - 1, 10).astype(int)):
        waits = (backlogs[name][i] for name in ("worker", "trainer"))
        behind = (int(each) if np.isfinite(each) else "unknown" for each in waits)
        at_s = samples[i].at_s - found.begun_s
        rows.append((f"{at_s:.0f}", *behind, round(samples[i].in_use_mib), round(samples[i].disk_mib)))
    return rows


def uses(found: Stage) -> list[tuple[object, ...]]:
    """Return what each process took: CPU, resident memory at the end and its growth, and what it wrote."""
    first, middle, last = found.samples[0], found.samples[len(found.samples) // 2], found.samples[-1]
    seconds = last.at_s - first.at_s
    rows = []
    for name in found.watch.pids:
        begin, half, end = (each.uses.get(name) for each in (first, middle, last))
        if begin and half and end:
            grows = 60 * (end.rss_mib - half.rss_mib) / (last.at_s - middle.at_s)
            written = (end.written_mib - begin.written_mib) / seconds
            rows.append((name, (end.cpu_s - begin.cpu_s) / seconds, round(end.rss_mib), grows, written))
    return rows


def figures(found: Stage) -> dict[str, Any]:
    """Return what is saved of one rate."""
    names = ("process", "cores", "resident_mib", "grows_mib_min", "written_mib_s")
    return {
        "rate": found.rate,
        "taken_share": found.taken_share,
        "faults": found.faults(),
        "seconds": spreads(found),
        "over_time": over_time(found),
        "uses": [dict(zip(names, row, strict=True)) for row in uses(found)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--warm", type=float, default=45.0, help="seconds of the stream that do not count")
    parser.add_argument("--slate", type=int, default=5)
    parser.add_argument("--clicks", type=float, default=0.25, help="share of the slates that are answered by a click")
    parser.add_argument("--requests", type=float, default=20.0, help="of /topk, a second")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. train.threads=2"
    )
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for all data and logs; default: a temporary one")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    sizes = Sizes(given.users, given.items, given.slate, given.clicks)
    chosen = SETTINGS | dict(each.split("=", 1) for each in given.set)
    with tempfile.TemporaryDirectory(prefix="hstu-bench-") as name:
        folder = (given.keep or Path(name)).resolve()
        with running(folder, sizes, chosen) as system:
            print(f"{given.users:,} users, {given.items:,} items, {given.cores} cores; {machine()}")
            print("settings: " + ", ".join(f"{key} {value}" for key, value in chosen.items()))
            print(
                "ready after s: " + ", ".join(f"{name} {took:.1f}" for name, took in system.ready_s.items()), flush=True
            )
            if given.search:
                stages = asyncio.run(search(system, sizes, given))
            else:
                stages = [asyncio.run(stage(system, sizes, given.rate, given))]
                show(stages[0])
    what = {"users": given.users, "items": given.items, "settings": chosen, "ready_s": system.ready_s}
    save("keep-up", {**what, "stages": [figures(each) for each in stages]}, given.save)


if __name__ == "__main__":
    main()
