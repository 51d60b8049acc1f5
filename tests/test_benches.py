"""Benchmarks are run by hand; these tests check only that they still fit the code that they measure."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent.parent / "bench"


def test_every_benchmark_finds_what_it_measures() -> None:
    """Each file can be imported, and each part that train.py times is a method that exists."""
    names = [path.stem for path in sorted(BENCH.glob("*.py"))]
    code = f"""
import sys, importlib
sys.path[:0] = [{str(BENCH)!r}, {str(BENCH.parent)!r}]
modules = {{name: importlib.import_module(name) for name in {names!r}}}
for name, owner, method in modules["train"].PARTS:
    assert callable(getattr(owner, method)), (name, method)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
