"""Folders for what is too large for memory."""

import gc
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.tables.scratch import Scratch, refusing_full, write_rows

FULL = Path("/dev/full")


def test_a_folder_goes_with_its_owner() -> None:
    """Whatever is in it."""
    scratch = Scratch()
    folder = scratch.folder
    write_rows(pl.DataFrame({"a": [1]}), folder / "rows.parquet")
    del scratch
    gc.collect()
    assert not folder.exists()


def test_a_full_disk_is_a_sentence() -> None:
    """With the variable that names another; other errors stay what they are."""
    with pytest.raises(SimError, match=r"/dev/full cannot take rows of the log: .*by TMPDIR"):
        write_rows(pl.DataFrame({"a": range(100_000)}), FULL)
    with pytest.raises(SimError, match="by TMPDIR"), refusing_full(FULL), FULL.open("wb", buffering=0) as file:
        file.write(b"x")
    with pytest.raises(FileNotFoundError), refusing_full(FULL), Path("/nowhere/x").open("wb"):
        pass
