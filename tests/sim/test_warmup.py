"""`hstu warmup`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTICE = "Compiling loops for this machine"


@pytest.mark.slow
def test_nothing_is_compiled_after_a_warmup(tmp_path: Path) -> None:
    """A replay that trains finds its loops in the cache that the warm-up has filled; only the latter says so."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    replay = ["replay", "--dataset", "movielens", "--limit", "2000", "--direct", "--data-dir", str(tmp_path / "data")]
    said = []
    for verb in (["warmup"], replay):
        command = [sys.executable, "-m", "sim.main", *verb]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stderr.count(NOTICE))
    assert said == [1, 0]
