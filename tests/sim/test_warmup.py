"""`hstu warmup`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTICE = "Compiling loops for this machine"
NOT_CACHED = """
import importlib, pkgutil
from pathlib import Path
from numba.core.dispatcher import Dispatcher
import model, sim, stream

for package in (model, sim, stream):
    for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "triton" not in each.name:  # has none, and cannot be imported everywhere
            for name, loop in vars(importlib.import_module(each.name)).items():
                own = isinstance(loop, Dispatcher) and loop.py_func.__module__ == each.name
                if own and not Path(loop._cache._cache_file._index_path).exists():
                    print(each.name, name)
"""


@pytest.mark.slow
def test_nothing_is_compiled_after_a_warmup(tmp_path: Path) -> None:
    """Each loop is in the cache that the warm-up has filled, and a replay that trains finds its own there.

    So a new loop that the warm-up does not reach is named here; only the warm-up says that it compiles.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    replay = ["replay", "--dataset", "movielens", "--limit", "2000", "--direct", "--data-dir", str(tmp_path / "data")]
    done = [
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
        for command in (["-m", "sim.main", "warmup"], ["-c", NOT_CACHED], ["-m", "sim.main", *replay])
    ]
    assert done[1].stdout == ""
    assert [each.stderr.count(NOTICE) for each in done] == [1, 0, 0]
