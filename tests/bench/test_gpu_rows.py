import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
QUIETLY: Any = {"capture_output": True, "text": True}
ROWS = """
import os, signal, sys, time
from pathlib import Path
import torch
from gpu_rows import Rows

def lose_the_device():
    def synchronize():
        raise RuntimeError("an illegal memory access was encountered")
    torch.cuda.is_initialized, torch.cuda.synchronize = lambda: True, synchronize
    synchronize()

rows = Rows(Path(sys.argv[1]), "layers", time.time() + 100)
rows.row("raises", lambda: 1 / 0)
rows.row("loses the device", lose_the_device)
rows.row("dies", lambda: os.kill(os.getpid(), signal.SIGKILL))
rows.row("hangs", signal.pause, limit_s=1)
rows.row("works", lambda: {"ms": 1.0})
"""


def test_a_row_of_the_gpu_benchmark_that_fails_costs_no_other(tmp_path: Path) -> None:
    """Its error is in the file; if it killed the process, the next process goes on with the next row."""
    file = tmp_path / "gpu.json"
    file.write_text('{"device": "any"}')
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bench")}
    command = [sys.executable, "-c", ROWS, str(file)]
    codes = [subprocess.run(command, env=environment, check=False, **QUIETLY).returncode for _ in range(4)]
    assert codes == [3, -signal.SIGKILL, -signal.SIGALRM, 0]
    figures = json.loads(file.read_text())
    assert figures["device"] == "any"
    errors = {name: row.get("error") for name, row in figures["layers"].items()}
    assert errors["raises"] == "ZeroDivisionError: division by zero"
    assert errors["loses the device"] == "RuntimeError: an illegal memory access was encountered"
    assert all(errors[name].startswith("it did not end") for name in ("dies", "hangs"))
    assert figures["layers"]["works"] == {"ms": 1.0}
