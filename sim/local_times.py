"""Times by a clock of a zone as instants; polars series of datetimes, and int64 milliseconds of the clock."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

_HOUR_MS: Final = 3_600_000
_MOST_OF_AN_HOUR: Final = _HOUR_MS // 2
_WINDOW: Final = 5  # rows of which two out of order decide nothing


class LocalTimes:
    """Reads times by a clock without offsets, column by column in the order of the log.

    In a log whose times rise, the hour that occurs twice in autumn is read by their order: from where they fall back in
    it by most of it, they are of its second pass. Otherwise all are of the first. One or two rows out of order decide
    nothing.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.repeated = self.second = 0
        """Times in an hour that occurs twice, and those of them in its second pass."""
        self.unordered = 0
        """Those that are read as its first as no order says which they are."""
        self.named = dict[str, LocalTimes]()
        """Those by the clocks of zones whose names stand behind the times."""
        self._rises = True
        self._open: tuple[int, int, bool] | None = None  # the hour a column ended in, how far, in the second pass?

    def of(self, zone: str) -> "LocalTimes":
        """Return those by the clock of a zone that is named behind the times."""
        return self.named.setdefault(zone, LocalTimes(zone))

    def instants(self, at: pl.Series) -> pl.Series:
        """Return the instants of a column, null where summer time leaves a time out."""
        first = at.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")
        if self.zone == "UTC":
            return first
        last = at.dt.replace_time_zone(self.zone, ambiguous="latest", non_existent="null")
        twice, clock_ms = (first != last).fill_null(False).to_numpy(), at.dt.timestamp("ms")
        there = clock_ms.is_not_null().to_numpy()
        second = np.zeros(len(at), dtype=bool)
        shift_ms = (last - first).dt.total_milliseconds().max()  # half an hour on Lord Howe Island
        half_ms = shift_ms // 2 if isinstance(shift_ms, int) else 0
        second[there] = self._second_pass(clock_ms.drop_nulls().to_numpy(), twice[there], half_ms)
        self.repeated += int(twice[there].sum())
        self.second += int(second.sum())
        return last.zip_with(pl.Series(second), first)

    def _second_pass(self, clock_ms: NDArray[np.int64], twice: NDArray[np.bool_], half_ms: int) -> NDArray[np.bool_]:
        """Return which times are of the second pass of an hour, of which `half_ms` is half."""
        second, opened, self._open = np.zeros_like(twice), self._open, None
        if not twice.any():
            return second
        if not twice.all():
            self._rises = bool(_fall(_smooth(clock_ms[~twice], _MOST_OF_AN_HOUR)).max(initial=0) < _MOST_OF_AN_HOUR)
        if not self._rises:
            self.unordered += int(twice.sum())
            return second
        hours = clock_ms // _HOUR_MS
        for hour in np.unique(hours[twice]):
            rows = np.flatnonzero(twice & (hours == hour))
            begun = opened if opened is not None and rows[0] == 0 and opened[0] == hour else (hour, 0, False)
            own = _smooth(clock_ms[rows], half_ms)
            passed = np.logical_or.accumulate(_fall(own, begun[1]) >= half_ms) | begun[2]
            if _fall(own[passed], begun[1] * begun[2]).max(initial=0) >= half_ms:
                self.unordered += len(rows)
                continue  # they fall back again and again
            second[rows] = passed
            if rows[-1] == len(clock_ms) - 1:
                reached = own[passed == passed[-1]].max(initial=begun[1] if passed[-1] == begun[2] else 0)
                self._open = (hour, int(reached), bool(passed[-1]))
        return second


def _smooth(values: NDArray[np.int64], far_ms: int) -> NDArray[np.int64]:
    """Return values without those that lie far from the median of themselves and two neighbours on both sides."""
    if len(values) < _WINDOW:
        return values
    around = np.pad(values, _WINDOW // 2, mode="reflect")
    medians = np.median(np.lib.stride_tricks.sliding_window_view(around, _WINDOW), axis=1).astype(np.int64)
    return np.where(abs(values - medians) >= far_ms, medians, values)


def _fall(values: NDArray[np.int64], reached: int = 0) -> NDArray[np.int64]:
    """Return by how much each value lies below the highest before it."""
    return np.maximum(np.maximum.accumulate(values), reached) - values
