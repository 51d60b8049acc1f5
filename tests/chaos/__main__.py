"""`make chaos`: run a schedule of faults under default and under strict settings, and print the table.

python -m tests.chaos --faults 55 --seed 1 --profile default --profile strict
"""

import argparse
import itertools
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.processes import TOML
from tests.chaos.report import table
from tests.chaos.run import run
from tests.chaos.schedule import KINDS, Fault, make_schedule


def main() -> None:
    """Run, print, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=55, help="of each profile")
    parser.add_argument("--seed", type=int, default=1, help="replays a schedule")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="default: all")
    parser.add_argument("--profile", action="append", choices=list(TOML), help="default: both")
    parser.add_argument("--rate", type=float, default=60, help="events a second")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each profile, after which no fault begins")
    parser.add_argument("--in", dest="folder", type=Path, help="kept there if something is wrong; default: temporary")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="hstu-chaos-"))).absolute()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything is stopped
    runs = []
    for profile in given.profile or list(TOML):
        say = lambda line, profile=profile: print(f"{profile} {line}", flush=True)  # noqa: E731
        schedule = until(given.minutes, make_schedule(given.seed, given.faults, given.kind or KINDS))
        runs.append(run(folder / profile, profile, given.seed, schedule, given.rate, say))
    print(table(runs))
    if given.folder is None and not any(folder.iterdir()):
        folder.rmdir()
    sys.exit(1 if any(one.wrong for one in runs) else 0)


def until(minutes: float, schedule: list[Fault]) -> Iterator[Fault]:
    """Yield faults as long as there is time."""
    end = time.monotonic() + 60 * minutes
    yield from itertools.takewhile(lambda fault: time.monotonic() < end, schedule)


if __name__ == "__main__":
    main()
