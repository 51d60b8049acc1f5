"""Ties in time: rows of one user at one recorded instant become successive milliseconds.

Sequences are sorted by (ts, kind, item), so rows of one time would be sorted by item id. That hides the order in which
they happened, and where ids follow one another a sequence model could guess the next item from it.
"""

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
    frame = pl.DataFrame({"user": users, "ts": ts_ms, "place": place, "row": row}).sort("user", "ts", "place")
    rank = pl.int_range(pl.len()).over("user")
    moved = frame.select("row", ts=(pl.col("ts") - rank).cum_max().over("user") + rank)
    spread = np.empty_like(ts_ms)
    spread[moved["row"].to_numpy()] = moved["ts"].to_numpy()
    return spread
