"""`hstu compare`, in this process or in one of its own, on a world so small that a run takes about a second."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

from tests.hstu import hstu

WORLD = """
title = "A small world"
[base]
events = 600
users = 30
items = 60
categories = 6
days = 2
[[shock]]
at_d = 1.0
items = 6
factor = 20.0
half_life_d = 0.2
"""


SMALL = {
    "HSTU_MODEL__DIM": "8",
    "HSTU_MODEL__LAYERS": "1",
    "HSTU_MODEL__HEADS": "1",
    "HSTU_MODEL__BIAS": "none",
    "HSTU_STREAM__EXAMPLE_TOKENS": "16",
    "HSTU_TRAIN__NEGATIVES": "16",
    "COLUMNS": "160",
}


def arguments(folder: Path, *flags: str) -> list[str]:
    world = folder / "small.toml"
    if not world.exists():
        world.write_text(WORLD)
    chosen = ("--scenario", str(world), "--contestant", "silu", "--contestant", "softmax", "--contestant", "popularity")
    return [*chosen, "--out", str(folder / "out"), *flags]


def command(folder: Path, *flags: str) -> list[str]:
    """Return the command line of a process."""
    return [sys.executable, "-c", "from sim.main import main; main()", "compare", *arguments(folder, *flags)]


def run(folder: Path, *flags: str) -> CompletedProcess[str]:
    return compare(*arguments(folder, *flags))


def compare(*arguments: str) -> CompletedProcess[str]:
    return hstu("compare", *arguments, **SMALL)
