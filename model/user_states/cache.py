"""Users' states between requests: the keys and values of a history's tokens in each layer, bounded in bytes.

A state is of one snapshot: the scorer of another one drops all of them. Otherwise what was not used for the longest
time goes first, and all that nobody has used for IDLE_S. A state serves only a
history that begins with the very tokens that it was made of: where the window of the last max_len tokens has moved on,
or the user has been forgotten, there is none.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.user_states.history import History

IDLE_S: Final = 600.0
_USER_BYTES: Final = 500  # beside the array
Result = Literal["hit", "extended", "miss"]
State = NDArray[np.float32]  # [S, p, W] of p tokens, as in model/attention/cpu/extend.py


class _Kept(NamedTuple):
    digest: bytes
    state: State
    used_s: float

    @property
    def bytes(self) -> int:
        return _USER_BYTES + self.state.nbytes


class UserStates:
    """The states of one process, one a user, shared by threads.

    Args:
        most_bytes: The most that they take.
        clock: Monotonic seconds.
    """

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked: dict[Result, int] = {"hit": 0, "extended": 0, "miss": 0}
        self.bytes = 0
        self._most, self._clock, self._lock = most_bytes, clock, threading.Lock()
        self._users: OrderedDict[str, _Kept] = OrderedDict()  # the one used last is the last
        self._owner = 0

    def begin(self) -> int:
        """Drop all states, and return the number of the scorer whose states are kept from now on."""
        with self._lock:
            self._users.clear()
            self.bytes = 0
            self._owner += 1
            return self._owner

    def get(self, owner: int, history: History, wanted: int) -> State | None:
        """Return the state of a part of the first `wanted` tokens, None if there is none.

        It is counted: all that is wanted is a hit, a part of it is extended.
        """
        with self._lock:
            self._drop_idle()
            kept = self._users.get(history.user) if owner == self._owner else None
            tokens = kept.state.shape[1] if kept else 0
            if kept is None or tokens > wanted or kept.digest != history.digest(tokens):
                self.asked["miss"] += 1
                return None
            self._users[history.user] = kept._replace(used_s=self._clock())
            self._users.move_to_end(history.user)
            self.asked["hit" if tokens == wanted else "extended"] += 1
            return kept.state

    def put(self, owner: int, history: History, state: State) -> None:
        """Keep the state of a history's first tokens, in place of what is kept of the user."""
        kept = _Kept(history.digest(state.shape[1]), state, self._clock())
        with self._lock:
            if owner != self._owner or kept.bytes > self._most:
                return
            self._drop(history.user)
            self._users[history.user] = kept
            self.bytes += kept.bytes
            while self.bytes > self._most:
                self._drop(next(iter(self._users)))

    def forget(self, user: str) -> None:
        """Drop the state of a user, if there is one."""
        with self._lock:
            self._drop(user)

    def _drop_idle(self) -> None:
        while self._users:
            user, kept = next(iter(self._users.items()))
            if kept.used_s > self._clock() - IDLE_S:
                break
            self._drop(user)

    def _drop(self, user: str) -> None:
        kept = self._users.pop(user, None)
        self.bytes -= kept.bytes if kept else 0
