"""Folders for what is too large for memory."""

import errno
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import polars as pl

from sim.errors import SimError

_GROUP_ROWS: Final = 1 << 13  # a bucket reads groups whole, and of each run only a range of the key


class Scratch:
    """A folder that is deleted with this object, or when the process ends; TMPDIR decides where."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="hstu-log-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def write_rows(rows: pl.DataFrame, path: Path) -> None:
    """Write rows to a file of a scratch folder.

    Raises:
        SimError: They do not fit.
    """
    try:
        rows.write_parquet(path, row_group_size=_GROUP_ROWS, compression="lz4")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _full(path, error) from None


@contextmanager
def refusing_full(path: Path) -> Iterator[None]:
    """Make a sentence of a full disk while the block writes a file of a scratch folder.

    Raises:
        SimError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _full(path, error) from None


def _full(path: Path, error: Exception) -> SimError:
    return SimError(f"{path} cannot take rows of the log: {error}; name a folder with more space by TMPDIR.")
