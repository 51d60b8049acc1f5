"""Sorting more rows than memory holds: runs on disk, read back in buckets of a range of the key.

    1. rows gather in memory; RUN_ROWS of them are sorted by the key and become a file
    2. every SAMPLE-th key of each run is kept; they tell where to cut the key's range into buckets of RUN_ROWS
    3. a bucket is what the runs hold of its range; one key is never cut

What fits into one run stays in memory. The keys are int64.
"""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from sim.sources.tables.scratch import write_rows

RUN_ROWS: Final = 500_000
SAMPLE: Final = 1_000


class Runs:
    """Rows that are added in any order and read in buckets of rising keys.

    Args:
        folder: An existing folder for the runs.
        key: The column of the key.
        run_rows: Rows a run, and about those of a bucket.
    """

    def __init__(self, folder: Path, key: str, run_rows: int = RUN_ROWS) -> None:
        self._folder, self._key, self._run_rows = folder, key, run_rows
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._runs: list[Path] = []
        self._samples: list[pl.Series] = []

    @property
    def empty(self) -> bool:
        """Whether there are no rows."""
        return not self._runs and not self._held_rows

    @property
    def in_memory(self) -> bool:
        """Whether all rows so far are held in memory."""
        return not self._runs

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows."""
        self._held.append(rows)
        self._held_rows += len(rows)
        if self._held_rows >= self._run_rows:
            self._spill()

    def _spill(self) -> None:
        rows = pl.concat(self._held).sort(self._key, maintain_order=True)
        path = self._folder / f"{self._key}-{len(self._runs)}.parquet"
        write_rows(rows, path)
        self._runs.append(path)
        self._samples.append(rows[self._key].gather_every(SAMPLE))
        self._held, self._held_rows = [], 0

    def buckets(self) -> Iterator[pl.DataFrame]:
        """Yield all rows; within a bucket they keep the order in which they came."""
        if not self._runs:
            if self._held:
                yield pl.concat(self._held)
            return
        if self._held:
            self._spill()
        cuts = self._cuts()
        for low, high in zip([None, *cuts], [*cuts, None], strict=True):
            inside = pl.lit(True)
            if low is not None:
                inside &= pl.col(self._key) >= low
            if high is not None:
                inside &= pl.col(self._key) < high
            parts = [pl.scan_parquet(run, glob=False).filter(inside).collect() for run in self._runs]
            if len(bucket := pl.concat(parts)):
                yield bucket
        for run in self._runs:
            run.unlink()

    def _cuts(self) -> list[int]:
        keys = pl.concat(self._samples).sort().to_list()
        step = max(1, self._run_rows // SAMPLE)
        cuts = sorted(set(keys[step::step]))
        return cuts[bisect_right(cuts, keys[0]) :]
