"""Ties in time: rows of one user at one recorded instant become successive milliseconds.

Sequences are sorted by (ts, kind, item), so rows of one time would be sorted by item id. That hides the order in which
they happened, and where ids follow one another a sequence model could guess the next item from it.

Users are told apart by hashes, which are sorted much faster than texts; two of one hash would only be spread together.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray


def spread_ties(users: pl.Series, ts_ms: NDArray[np.int64], seed: int | None = None) -> NDArray[np.int64]:
    """Return times that rise strictly within each user; each is the earliest possible one not before its own.

    Rows of one instant keep the file's order, or are shuffled if `seed` is not None. If they do not fit before the
    user's next instant, that instant moves on.
    """
    row = np.arange(len(ts_ms))
    place = row if seed is None else np.random.default_rng(seed).permutation(len(ts_ms))
    frame = pl.DataFrame({"user": users.hash(), "ts": ts_ms, "place": place, "row": row}).sort("user", "ts", "place")
    times = frame["ts"].to_numpy()
    first = (frame["user"] != frame["user"].shift(1)).fill_null(True).to_numpy()
    spread = np.empty_like(ts_ms)
    spread[frame["row"].to_numpy()] = _rising(times, first)
    return spread


def _rising(ts_ms: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the least strictly rising times of each user, whose rows begin where `first` is true.

    That is rank + the running maximum of (ts - rank) over the user's rows. The maximum of the whole column serves once
    each user lies above all before; places among the distinct values are lifted, since times could overflow.
    """
    if not len(ts_ms):
        return ts_ms
    place = np.arange(len(ts_ms))
    number = np.cumsum(first) - 1
    rank = place - place[first][number]
    levels, among = np.unique(ts_ms - rank, return_inverse=True)
    lift = number * len(levels)
    highest: NDArray[np.int64] = levels[np.maximum.accumulate(among + lift) - lift]
    return highest + rank  # type: ignore[no-any-return]


class Ties(NamedTuple):
    """Rows that share user and time with the row before them."""

    rows: int
    in_id_order: int
    """Those of them whose item follows that of the row before, by number or text; equal items count for neither."""
    other: int
    """Those whose item precedes it."""


def count_ties(rows: pl.DataFrame) -> Ties:
    """Count the ties of rows with `user`, `ts`, `item`, in the order of the log."""
    frame = rows.select("ts", "item", user=pl.col("user").hash()).sort("user", "ts", maintain_order=True)
    before = frame.shift(1)
    tied = ((frame["user"] == before["user"]) & (frame["ts"] == before["ts"])).fill_null(False)
    items, earlier = frame["item"].filter(tied), before["item"].filter(tied)
    numbers = items.cast(pl.Float64, strict=False), earlier.cast(pl.Float64, strict=False)
    both = numbers[0].is_not_null() & numbers[1].is_not_null()
    rising = ((numbers[0] > numbers[1]) & both) | ((items > earlier) & ~both)
    falling = ((numbers[0] < numbers[1]) & both) | ((items < earlier) & ~both)
    return Ties(int(tied.sum()), int(rising.fill_null(False).sum()), int(falling.fill_null(False).sum()))
