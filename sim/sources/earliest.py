"""The earliest rows of a log, for `--limit`: what is held of it, and how far it has to be read.

A file is taken to be in time order if what was read of it is, up to a disorder that its end lies well behind: its rows
of several users never fell back by more than that, and it has come twice as far beyond the last of the earliest rows.
What follows then changes nothing, and is not read. Of a file that is in another order every row has to be looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from sim.sources.log_rows import LogRows
from sim.sources.tables.batch import AnyFile


@dataclass(slots=True)
class _Order:
    """How far in time the rows of a file have come, and by how much one fell back."""

    begun_ms: int
    reached_ms: int
    user: str | None
    disorder_ms: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        ts = rows["ts"]
        reached = ts.cum_max().clip(lower_bound=self.reached_ms)
        self.disorder_ms = max(self.disorder_ms, int((reached - ts).max()))  # type: ignore[arg-type]
        self.reached_ms = int(reached[-1])
        if self.user is not None and (rows["user"] != self.user).any():
            self.user = None  # there are several


class EarliestRows:
    """The `limit` earliest rows of those that come; no more than twice as many are held.

    Args:
        limit: Number of rows, of which those at the instant of the last do not count.
        run_rows: Rows that can be held in any case.
    """

    def __init__(self, limit: int, run_rows: int) -> None:
        self._limit, self._run_rows = limit, run_rows
        self._held: list[pl.DataFrame] = []
        self._count = 0
        self._orders: dict[int, _Order] = {}

    def take(self, rows: LogRows) -> None:
        """Take the rows of a log, in its order."""
        for part in rows:
            self._add(rows.file, part)

    def _add(self, file: AnyFile, part: pl.DataFrame) -> None:
        order = self._orders.setdefault(id(file), _Order(begun := int(part["ts"][0]), begun, part["user"][0]))
        order.add(part)
        self._held.append(part)
        self._count += len(part)
        if self._count > 2 * self._limit + self._run_rows:
            self._cut()

    def _cut(self) -> None:
        self._held = [_earliest(pl.concat(self._held), self._limit, self._run_rows)]
        self._count = len(self._held[0])

    def __iter__(self) -> Iterator[pl.DataFrame]:
        if self._count > self._run_rows:
            self._cut()
        yield from self._held

    def settles(self, file: AnyFile) -> bool:
        """Return whether nothing that follows in a file can be among the earliest, if it goes on as it began."""
        order = self._orders.get(id(file))
        if order is None or order.user is not None or self._count < self._limit:
            return False
        last_ms = pl.concat([part["ts"] for part in self._held]).bottom_k(self._limit).max()
        return order.reached_ms - 2 * order.disorder_ms > int(last_ms)  # type: ignore[arg-type]

    @property
    def in_order(self) -> bool:
        """Whether the times of every file so far rise by more than they fall back."""
        return all(2 * order.disorder_ms <= order.reached_ms - order.begun_ms for order in self._orders.values())

    def clear(self) -> None:
        """Begin anew."""
        self._held, self._count, self._orders = [], 0, {}

    def remarks(self, rows: LogRows) -> Iterator[str]:
        """Yield what is to be said of how far a log was read."""
        if rows.file.kind == "frame" or rows.read <= self._limit:
            return
        if not self.in_order:
            yield f"Its rows are in no order of time: --limit takes the {self._limit:,} earliest of all {rows.read:,}."
        elif self.settles(rows.file):
            yield f"Its rows are in the order of time: --limit takes the earliest of the first {rows.read:,}."


def _earliest(rows: pl.DataFrame, limit: int, run_rows: int) -> pl.DataFrame:
    """Return the earliest rows in their order, and those at the instant of the last if one bucket can hold them."""
    if len(rows) <= limit:
        return rows
    last_ms = rows["ts"].bottom_k(limit).max()
    earliest = rows.filter(pl.col("ts") <= last_ms)
    if len(earliest) < run_rows:
        return earliest
    return earliest.sort("ts", "row", maintain_order=True).head(limit).sort("row", maintain_order=True)
