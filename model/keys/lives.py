"""How long rows live: when each was seen last and how often, who leaves, and what is left of the dead.

R = rows of the vocabulary, L = item tokens of a micro-batch. Everything is a function of the events in their order.
Before a micro-batch is asked about, rows leave as of its first request:

    expiry     last_ms < now - ttl_ms, looked for SWEEPS times a time-to-live
    eviction   when fewer than one in SPARE of max_rows is free, the least by `evict` until twice as many are: the
               least recent, the least frequent, or the least of log2(count) + last_ms / HALF_LIFE_MS (both: a count
               halves in each half-life in which nothing is seen); withdrawn items first, ties by time, then by row

Then its ids enter (`may_enter`): those of a target's own token at its `admit_after`-th occurrence, a target being an
occurrence that comes once. Where that is 1, an id enters by any token, unless it may be older than its death: not newer
than any evicted row was. No token older than the time-to-live lets an id in, and none of a target that finds no room.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.arrays.state import prefixed, under
from model.config import Evict
from model.keys.admission import Admission

SPARE: Final = 32
SWEEPS: Final = 64
HALF_LIFE_MS: Final = 7 * 86_400_000
_NOT_SEEN: Final = -1  # in place of the time at which an adopted row was last seen
DEAD: Final = 1 << 18  # dead ids that are remembered, to tell who comes back
AGE: Final = "dead_age_ms"  # sum over the dead of their time from birth to death
COUNTS: Final = ("born", "expired", "evicted", "readmitted", "not_admitted", AGE)


class Limits(NamedTuple):
    """Bounds of a vocabulary; those by default let every id in and keep it."""

    admit_after: int = 1  # occurrences
    ttl_ms: int = 0  # 0: for ever
    max_rows: int = 0  # 0: any number
    evict: Evict = "recent"

    @property
    def none(self) -> bool:
        """Whether there are no bounds."""
        return self == Limits(evict=self.evict)


NO_LIMITS: Final = Limits()


class Lives:
    """The lives of the rows of one vocabulary."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.dead: dict[int, int] = {}  # key: event time of its death, the oldest first
        self.counts = dict.fromkeys(COUNTS, 0)
        self._admission = Admission(limits.admit_after)
        self._len = 0
        self._last_ms, self._seen = np.empty(0, np.int64), np.empty(0, np.int64)
        self._now_ms = self._swept = 0
        self._evicted_ms = -1  # the last time that any evicted row was seen
        self._adopted = False  # whether rows may be _NOT_SEEN

    def due(self, now_ms: int, used: int) -> bool:
        """Move event time on, and return whether it is time to look for rows that leave.

        Args:
            now_ms: Event time; an earlier one than before changes nothing.
            used: Number of rows that hold a key.
        """
        self._now_ms = max(self._now_ms, now_ms)
        if self._adopted:
            self._last_ms[self._last_ms == _NOT_SEEN] = self._now_ms
            self._adopted = False
        return self._sweep() != self._swept or self._surplus(used) > 0

    def leaving(self, used_R: NDArray[np.bool_], withdrawn_R: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows that leave now, ascending, and count them.

        Args:
            used_R: Rows that hold a key.
            withdrawn_R: Rows whose item is withdrawn.
        """
        expired_R = np.zeros(len(used_R), np.bool_)
        if self._sweep() != self._swept:
            self._swept = self._sweep()
            expired_R = used_R & (self._last_ms[: len(used_R)] < self._now_ms - self.limits.ttl_ms)
        rows = np.flatnonzero(used_R & ~expired_R)
        evicted = self._least(rows, withdrawn_R[rows]) if self._surplus(len(rows)) else rows[:0]
        self._evicted_ms = max(self._evicted_ms, int(self._last_ms[evicted].max(initial=-1)))
        self.counts["expired"] += int(expired_R.sum())
        self.counts["evicted"] += len(evicted)
        return np.sort(np.concatenate((np.flatnonzero(expired_R), evicted)))

    def _sweep(self) -> int:
        """Return the number of the sweep that is due."""
        return self._now_ms * SWEEPS // self.limits.ttl_ms if self.limits.ttl_ms else 0

    def _surplus(self, used: int) -> int:
        """Return how many of so many rows are evicted."""
        spare = -(-self.limits.max_rows // SPARE)
        kept = self.limits.max_rows - 2 * spare
        return used - kept if self.limits.max_rows and used > kept + spare else 0

    def _least(self, rows: NDArray[np.int64], withdrawn: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return those of the rows that are evicted."""
        last_ms, seen = self._last_ms[rows], self._seen[rows]
        columns: dict[Evict, list[NDArray[Any]]] = {
            "recent": [last_ms],
            "frequent": [seen, last_ms],
            "both": [np.log2(seen + 1) + last_ms / HALF_LIFE_MS, last_ms],
        }
        return rows[least([~withdrawn, *columns[self.limits.evict]], self._surplus(len(rows)))]

    def bury(self, rows: NDArray[np.int64], keys: NDArray[np.uint64], born_ms: NDArray[np.int64]) -> None:
        """Remember the dead by their keys, and forget their rows."""
        self.counts[AGE] += int(np.maximum(self._now_ms - born_ms, 0).sum())
        self._last_ms[rows] = self._seen[rows] = 0
        now = dict.fromkeys(keys[-DEAD:].tolist(), self._now_ms)
        for key in self.dead.keys() & now.keys():
            del self.dead[key]
        for key in list(islice(self.dead, max(0, len(self.dead) + len(now) - DEAD))):
            del self.dead[key]
        self.dead.update(now)

    def may_enter(
        self,
        keys_L: NDArray[np.uint64],
        ts_ms_L: NDArray[np.int64],
        own_L: NDArray[np.bool_],
        row_L: NDArray[np.int64],
        *,
        count: bool,
    ) -> NDArray[np.bool_]:
        """Return the tokens by which an id gets a row, or its birth may move back, [L].

        Args:
            keys_L: Items of the tokens.
            ts_ms_L: Their times.
            own_L: Whether each is a target.
            row_L: Rows of the items, -1 where there is none.
            count: Whether occurrences are counted.
        """
        fresh_L = ts_ms_L >= self._now_ms - self.limits.ttl_ms if self.limits.ttl_ms else np.ones(len(own_L), np.bool_)
        newer_L = ts_ms_L > self._evicted_ms
        if self.limits.admit_after == 1:
            return fresh_L & (own_L | newer_L)
        asks_L, enters_L = own_L & fresh_L & (row_L < 0), np.zeros(len(own_L), np.bool_)
        if count:
            enters_L[asks_L] = self._admission.count(keys_L[asks_L])
        return enters_L | (fresh_L & newer_L & (row_L >= 0))

    def room(self, used: int) -> int | None:
        """Return how many more keys may get a row where so many have one; None: any number."""
        return max(0, self.limits.max_rows - used) if self.limits.max_rows else None

    def enter(self, keys_n: NDArray[np.uint64]) -> None:
        """Count keys that have just got rows; they may come several times."""
        keys = set(keys_n.tolist())
        self._admission.forget(keys)
        self.counts["born"] += len(keys)
        for key in self.dead.keys() & keys:
            del self.dead[key]
            self.counts["readmitted"] += 1

    def see(
        self, row_L: NDArray[np.int64], ts_ms_L: NDArray[np.int64], own_L: NDArray[np.bool_], rows: int, *, count: bool
    ) -> None:
        """Note when items were seen, and count the targets among them.

        Args:
            row_L: Rows of the tokens' items, -1 where there is none.
            ts_ms_L: Their times.
            own_L: Whether each is a target.
            rows: Number of rows of the vocabulary.
            count: Whether occurrences are counted.
        """
        have_room(vars(self), rows, "_last_ms", "_seen")
        self._len = rows
        known_L = row_L >= 0
        np.maximum.at(self._last_ms, row_L[known_L], ts_ms_L[known_L])
        if count:
            np.add.at(self._seen, row_L[known_L & own_L], 1)
            self.counts["not_admitted"] += int((own_L & ~known_L).sum())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        return {
            "last_ms": self._last_ms[: self._len],
            "seen": self._seen[: self._len],
            **self.dead_state(),
            "clock": np.array([self._now_ms, self._swept, self._evicted_ms], np.int64),
            "counts": np.array([self.counts[name] for name in COUNTS], np.int64),
            **prefixed("admission.", self._admission.state()),
        }

    def dead_state(self) -> dict[str, NDArray[Any]]:
        """Return the dead as arrays: their keys, the oldest death first, and when they died."""
        keys, times = np.array(list(self.dead), np.uint64), np.array(list(self.dead.values()), np.int64)
        return {"dead_keys": keys, "dead_ms": times}

    def adopt(self, used_R: NDArray[np.bool_]) -> None:
        """Begin with the rows of a run that had no bounds: seen at the next micro-batch's first request, never counted.

        Args:
            used_R: Rows that hold a key.
        """
        self._last_ms, self._seen = np.where(used_R, _NOT_SEEN, 0), np.zeros(len(used_R), np.int64)
        self._len, self._adopted = len(used_R), True
        self.counts["born"] = int(used_R.sum())

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds, which may have been under other limits."""
        self._last_ms, self._seen = np.array(state["last_ms"]), np.array(state["seen"])
        self._len = len(self._last_ms)
        self.dead = dict(zip(state["dead_keys"].tolist(), state["dead_ms"].tolist(), strict=True))
        self._now_ms, self._swept, self._evicted_ms = state["clock"].tolist()
        self._swept = self._swept if self.limits.ttl_ms else self._sweep()
        self._adopted = bool((self._last_ms == _NOT_SEEN).any())
        self.counts = dict(zip(COUNTS, state["counts"].tolist(), strict=True))
        self._admission.load_state(under("admission.", state))


def least(columns: list[NDArray[Any]], count: int) -> NDArray[np.intp]:
    """Return the places of the least entries, ascending: by the first column, ties by the next ones, then by place.

    >>> least([np.array([3, 1, 1, 1]), np.array([0, 9, 5, 9])], 2).tolist()
    [1, 2]
    """
    left, found = np.arange(len(columns[0])), [np.empty(0, np.intp)]
    for column in columns:
        if not 0 < count < len(left):
            break
        values = column[left]
        edge = np.partition(values, count - 1)[count - 1]
        found.append(left[values < edge])
        count -= len(found[-1])
        left = left[values == edge]
    return np.sort(np.concatenate((*found, left[:count])))
