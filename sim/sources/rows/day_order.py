"""Whether some dates have day and month the other way round than most, as files of two programs may."""

import shlex
from typing import Final

import polars as pl

from sim.errors import SimError
from sim.sources.tables.timestamps import TimeReader, TimeSettings

_ORDERS: Final = {"%m/%d": "%d/%m", "%d/%m": "%m/%d", "%m-%d": "%d-%m", "%d-%m": "%m-%d"}
_LEAST: Final = 20  # times whose order is sure
_MONTHS: Final = 2  # that those lie in at most
_STRAY: Final = 3  # other months that the rest would lie in at least


def refuse_two_orders(times: pl.Series, form: str, owner: str) -> None:
    """Refuse times most of which can only be of one order, if the rest are near them in the other order alone.

    Args:
        times: The first of them.
        form: Their format, guessed.
        owner: The log, for errors.

    Raises:
        SimError: They are so: read in one order the rest lie in months of their own.
    """
    if form[:5] not in _ORDERS or times.dtype != pl.String:
        return
    other = _ORDERS[form[:5]] + form[5:]
    given = times.drop_nulls().unique(maintain_order=True)
    read, turned = (_months(given, each, owner) for each in (form, other))
    decided = read.filter(turned.is_null()).drop_nulls()
    if len(decided) < _LEAST or decided.n_unique() > _MONTHS:
        return
    near = decided.unique().to_list()
    stray = read.is_not_null() & turned.is_not_null() & ~read.is_in(near)
    if read.filter(stray).n_unique() >= _STRAY and turned.filter(stray).is_in(near).all():
        raise SimError(
            f"Column {times.name!r} of {owner} holds {given.filter(stray)[0]!r} among times that are {form}; as "
            f"{other} it would lie in their month: no order of day and month is sure. Say one for all, by --time "
            f"{shlex.quote(times.name)} --time-format '{form}', or replay the files of each order by themselves."
        )


def _months(times: pl.Series, form: str, owner: str) -> pl.Series:
    ts_ms, _ = TimeReader(TimeSettings(format=form), times, owner).read(times)
    return ts_ms.cast(pl.Datetime("ms")).dt.truncate("1mo")
