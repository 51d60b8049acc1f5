"""`hstu replay` with a small model."""

from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

from tests.hstu import hstu as hstu_here

SMALL = {"HSTU_MODEL__DIM": "8", "HSTU_MODEL__LAYERS": "1", "HSTU_MODEL__HEADS": "1", "COLUMNS": "160"}


def hstu(folder: Path, flags: Sequence[str]) -> CompletedProcess[str]:
    return hstu_here("replay", *flags, HSTU_DATA_DIR=str(folder), **SMALL)
