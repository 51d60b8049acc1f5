"""Times that are numbers of a unit which is never guessed: minutes, hours or days since 1970, or Excel's days.

Read as seconds they would lie in 1970, as those of a log do that counts from its own start; but such a log begins at 0.
"""

import shlex
import time
from typing import Final

import polars as pl

from sim.errors import SimError

_LEAST: Final = 10_000  # days until 1997
_1990_MS: Final = 631_152_000_000
_YEAR_MS: Final = 31_557_600_000
_UNITS: Final = {"minutes": (6e4, 0), "hours": (3.6e6, 0), "days": (8.64e7, 0), "excel-days": (8.64e7, 25_569)}
"""Milliseconds of one, and the number of 1970-01-01."""


def refuse_other_units(column: pl.Series, owner: str) -> None:
    """Refuse early times that do not begin near 0, by their span, and lie in recent years in another unit.

    Args:
        column: The first times, which lie before March 1973 if they are read as seconds.
        owner: The log, for errors.

    Raises:
        SimError: They are such.
    """
    numbers = column.cast(pl.Float64, strict=False).drop_nulls().drop_nans().sort()
    if not len(numbers):
        return
    first, last = numbers[len(numbers) // 100], numbers[len(numbers) - 1 - len(numbers) // 100]
    if first < max(_LEAST, last - first):
        return
    now_ms = time.time() * 1000 + _YEAR_MS
    fitting = [name for name, (ms, zero) in _UNITS.items() if _1990_MS <= (first - zero) * ms <= now_ms]
    if fitting:
        raise SimError(
            f"Column {column.name!r} of {owner} holds numbers from {first:,.0f} to {last:,.0f}, which as seconds lie "
            f"in 1970 and do not begin at 0; if they are {' or '.join(fitting)}, say --time {shlex.quote(column.name)} "
            f"--time-unit {fitting[0]}, and --time-unit s if they are seconds."
        )
