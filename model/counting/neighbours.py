"""Nearest histories: the last distinct items of each user, and who has an item lately.

S = SLOTS users, m = ITEMS last items, V items, k neighbours. With w = FADE^place the weight of an item of the history
that is asked about (0 the latest), the similarity of a user is

    s = sum of w over the items that both have / sqrt(number of the user's items)

A user is met by the items that both have, at each item among its RECENT latest takers; the NEAREST most similar count,
of equal ones those met first. Source: VS-KNN, Ludewig and Jannach, Evaluation of session-based recommendation
algorithms, 2018, with users' last items in the place of sessions.

Memory is bounded whatever the numbers of users and items: S * m places and 4 bytes an item. The key of a user names
WAYS slots; a new user takes the one that has taken nothing for longest. The users who have an item are a list through
the places, the latest taker first.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.arrays.jit import compiled

SLOTS: Final = 1 << 14
WAYS: Final = 8
ITEMS: Final = 20
RECENT: Final = 200
NEAREST: Final = 200
FADE: Final = 0.9

Array = NDArray[Any]


class Histories(NamedTuple):
    """What is kept, as compiled loops read and write it; places are counted from 1, and 0 is none."""

    users: NDArray[np.uint64]  # [S] key of the user
    sizes: NDArray[np.int32]  # [S] number of items
    turns: NDArray[np.int64]  # [S] when the user has last taken one, by `clock`; 0: never
    items: NDArray[np.int32]  # [S * m]
    stamps: NDArray[np.int64]  # [S * m] when each was taken, by `clock`; 0: an empty place
    earlier: NDArray[np.int32]  # [S * m] place of the taker before
    later: NDArray[np.int32]  # [S * m] place of the taker after
    latest: NDArray[np.int32]  # [V and room for more] place of the latest taker
    clock: NDArray[np.int64]  # [1] number of takings


class Memory(NamedTuple):
    """Memory of `nearest`, all 0 between two calls."""

    sums: NDArray[np.float64]  # [S]
    met: NDArray[np.int64]  # [m * RECENT]


class Neighbours:
    """The histories that are kept."""

    def __init__(self, slots: int = SLOTS) -> None:
        places = slots * ITEMS
        self.histories = Histories(
            np.zeros(slots, np.uint64),
            np.zeros(slots, np.int32),
            np.zeros(slots, np.int64),
            np.zeros(places, np.int32),
            np.zeros(places, np.int64),
            np.zeros(places, np.int32),
            np.zeros(places, np.int32),
            np.zeros(0, np.int32),
            np.zeros(1, np.int64),
        )
        self._len = 0

    def grow(self, rows: int) -> None:
        """Have at least `rows` items; nobody has the new ones."""
        self._len = max(self._len, rows)
        if rows > len(self.histories.latest):
            parts = self.histories._asdict()
            del self.histories
            have_room(parts, rows, "latest")
            self.histories = Histories(**parts)

    def memory(self) -> Memory:
        """Return memory for `nearest`."""
        return Memory(np.zeros(len(self.histories.users)), np.zeros(ITEMS * RECENT, np.int64))

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop items that have died from all histories."""
        _forget_items(rows[rows < self._len], self.histories)

    def forget_users(self, users: NDArray[np.uint64]) -> None:
        """Drop the histories of users."""
        _forget_users(users, self.histories)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        kept = self.histories
        places, slots = np.flatnonzero(kept.stamps), np.flatnonzero(kept.turns)
        return {
            "places": places.astype(np.int32),
            "items": kept.items[places],
            "stamps": kept.stamps[places],
            "slots": slots.astype(np.int32),
            "users": kept.users[slots],
            "turns": kept.turns[slots],
            "facts": np.array([len(kept.users), self._len, kept.clock[0]], np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Neighbours":
        """Return the histories of a state; without `users` they can be asked, and kept no longer."""
        slots, rows, clock = state["facts"].tolist()
        new = cls(slots)
        new.grow(rows)
        kept = new.histories
        places = state["places"].astype(np.int64)
        kept.items[places], kept.stamps[places], kept.clock[0] = state["items"], state["stamps"], clock
        kept.sizes[:] = np.bincount(places // ITEMS, minlength=slots)
        if "users" in state:
            kept.users[state["slots"]], kept.turns[state["slots"]] = state["users"], state["turns"]
        _link_all(places[np.argsort(state["stamps"], kind="stable")], kept)
        return new


@compiled
def _link(place: int, kept: Histories) -> None:
    """Make the user of a place the latest taker of its item."""
    before = kept.latest[kept.items[place]]
    kept.earlier[place], kept.later[place] = before, 0
    if before:
        kept.later[before - 1] = place + 1
    kept.latest[kept.items[place]] = place + 1


@compiled
def _link_all(places: Array, kept: Histories) -> None:
    for place in places:
        _link(place, kept)


@compiled
def _unlink(place: int, kept: Histories) -> None:
    before, after = kept.earlier[place], kept.later[place]
    if before:
        kept.later[before - 1] = after
    if after:
        kept.earlier[after - 1] = before
    else:
        kept.latest[kept.items[place]] = before


@compiled
def _drop(place: int, kept: Histories) -> None:
    _unlink(place, kept)
    kept.stamps[place] = 0
    kept.sizes[place // ITEMS] -= 1


@compiled
def _take(slot: int, item: int, kept: Histories) -> None:
    """Make an item the latest of a user; the oldest one makes room for it."""
    first = slot * ITEMS
    at = first
    for place in range(first, first + ITEMS):
        if kept.stamps[place] and kept.items[place] == item:
            at = place
            break
        if kept.stamps[place] < kept.stamps[at]:
            at = place
    if kept.stamps[at]:
        _unlink(at, kept)
    else:
        kept.sizes[slot] += 1
    kept.clock[0] += 1
    kept.items[at], kept.stamps[at] = item, kept.clock[0]
    kept.turns[slot] = kept.clock[0]
    _link(at, kept)


@compiled
def slot_of(user: int, kept: Histories) -> int:
    """Return the slot of a user, -1 if it has none."""
    first = WAYS * np.int64(user % np.uint64(len(kept.users) // WAYS))
    for slot in range(first, first + WAYS):
        if kept.turns[slot] and kept.users[slot] == user:
            return int(slot)
    return -1


@compiled
def _renewed(user: int, kept: Histories) -> int:
    """Return a slot for a new user, emptied."""
    first = WAYS * np.int64(user % np.uint64(len(kept.users) // WAYS))
    slot = int(first + np.argmin(kept.turns[first : first + WAYS]))
    kept.users[slot] = user
    _clear(slot, kept)
    return slot


@compiled
def keep(user: int, item: int, history: Array, kept: Histories) -> None:
    """Keep that a user takes an item.

    Args:
        user: Key of the user.
        item: Row of the item.
        history: Rows of the user's items until then, latest first, -1 at the end; taken over if the user is new.
        kept: What is kept.
    """
    slot = slot_of(user, kept)
    if slot < 0:
        slot = _renewed(user, kept)
        for k in range(min(len(history), ITEMS) - 1, -1, -1):
            if history[k] >= 0:
                _take(slot, history[k], kept)
    _take(slot, item, kept)


@compiled
def _clear(slot: int, kept: Histories) -> None:
    for place in range(slot * ITEMS, (slot + 1) * ITEMS):
        if kept.stamps[place]:
            _drop(place, kept)


@compiled
def _forget_users(users: Array, kept: Histories) -> None:
    for user in users:
        slot = slot_of(user, kept)
        if slot >= 0:
            kept.users[slot] = kept.turns[slot] = 0
            _clear(slot, kept)


@compiled
def _forget_items(rows: Array, kept: Histories) -> None:
    for row in rows:
        while kept.latest[row]:
            _drop(int(kept.latest[row]) - 1, kept)


@compiled
def nearest(without: int, last: Array, kept: Histories, memory: Memory) -> tuple[Array, Array]:
    """Return the slots of the nearest users and their similarities, [k] each.

    Args:
        without: Slot of a user who is none of them, -1: all may be.
        last: Rows of the last items, latest first, -1 at the end; the later places of an item do not count.
        kept: What is kept.
        memory: Memory.
    """
    n, weight = 0, 1.0
    for k in range(len(last)):
        item = last[k]
        if item < 0:
            break
        if not (last[:k] == item).any():
            place, left = np.int64(kept.latest[item]), RECENT
            while place and left:
                slot = (place - 1) // ITEMS
                if slot != without:
                    if memory.sums[slot] == 0.0:
                        memory.met[n] = slot
                        n += 1
                    memory.sums[slot] += weight
                place, left = np.int64(kept.earlier[place - 1]), left - 1
        weight *= FADE
    similar, slots = np.empty(n), memory.met[:n].copy()
    for k in range(n):
        similar[k] = memory.sums[slots[k]] / np.sqrt(kept.sizes[slots[k]])
        memory.sums[slots[k]] = 0.0
    if n <= NEAREST:
        return slots, similar
    least = np.partition(similar, n - NEAREST)[n - NEAREST]  # the smallest that may count
    equal, at = NEAREST - (similar > least).sum(), 0
    for k in range(n):
        if similar[k] > least or (similar[k] == least and equal > 0):
            equal -= similar[k] == least
            slots[at], similar[at] = slots[k], similar[k]
            at += 1
    return slots[:at], similar[:at]
