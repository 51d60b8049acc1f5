"""`hstu replay` as a process, with a small model."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def hstu(folder: Path, flags: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sim.main import main; main()", "replay", *flags]
    small = {
        "COLUMNS": "160",
        "HSTU_MODEL__DIM": "8",
        "HSTU_MODEL__LAYERS": "1",
        "HSTU_MODEL__HEADS": "1",
        "HSTU_DATA_DIR": str(folder),
    }
    return subprocess.run(command, env=os.environ | small, text=True, capture_output=True, check=False)
