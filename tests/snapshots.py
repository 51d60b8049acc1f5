"""Snapshots for tests: small arrays with a manifest, written where the test says."""

from pathlib import Path
from typing import Any

import numpy as np

from model.storage.snapshot import Manifest, write_snapshot


def some_arrays(seed: int = 0) -> dict[str, Any]:
    """Return arrays of every dtype that a snapshot holds, empty and scalar ones among them."""
    rng = np.random.default_rng(seed)
    return {
        "items.weight": rng.normal(size=(5, 8)).astype(np.float32),
        "items.keys": rng.integers(0, 2**64, 5, np.uint64, endpoint=False),
        "items.born_ms": rng.integers(0, 2**41, 5),
        "items.withdrawn": np.array([False, True, False, False, True]),
        "items.texts": np.frombuffer("aübc".encode(), np.uint8),
        "popularity.at_ms": np.array(2**41, np.int64),
        "popularity.sums": rng.random(5),
        "features.weight": np.zeros((0, 8), np.float32),
    }


def some_manifest(step: int = 1, **fields: Any) -> Manifest:
    """Return the manifest of step `step`, made `step` seconds after 1970."""
    return Manifest(**{"name": "silu", "step": step, "created": float(step), "watermark_ms": 1000 * step, **fields})


def write_some(directory: Path, step: int = 1, **fields: Any) -> Path:
    """Write a small snapshot whose arrays depend on the step."""
    return write_snapshot(directory, arrays=some_arrays(step), manifest=some_manifest(step, **fields))


def write_line(directory: Path, steps: int) -> list[str]:
    """Write snapshots 1..steps, each the parent of the next, and return their ids."""
    ids = [""]
    for step in range(1, steps + 1):
        ids.append(write_some(directory, step, parent=ids[-1]).name)
    return ids[1:]
