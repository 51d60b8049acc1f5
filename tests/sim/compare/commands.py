"""`hstu compare` as a process, on a world so small that a run takes about a second."""

import os
import subprocess
import sys
from pathlib import Path

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


def command(folder: Path, *flags: str) -> list[str]:
    world = folder / "small.toml"
    if not world.exists():
        world.write_text(WORLD)
    main = "import sys; from sim.main import main; main()"
    chosen = ("--scenario", str(world), "--contestant", "silu", "--contestant", "softmax", "--contestant", "popularity")
    return [sys.executable, "-c", main, "compare", *chosen, "--out", str(folder / "out"), *flags]


def environment() -> dict[str, str]:
    small = {"DIM": "8", "LAYERS": "1", "HEADS": "1", "BIAS": "none"}
    return (
        os.environ
        | {f"HSTU_MODEL__{key}": value for key, value in small.items()}
        | {
            "HSTU_STREAM__EXAMPLE_TOKENS": "16",
            "HSTU_TRAIN__NEGATIVES": "16",
            "COLUMNS": "160",
        }
    )


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *flags), env=environment(), text=True, capture_output=True, check=False)
