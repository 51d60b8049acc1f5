import numpy as np
import pytest
from numpy.typing import NDArray

from model.user_states.cache import IDLE_S, UserStates
from model.user_states.history import History

TOKENS = 16
STATE = np.zeros((1, TOKENS, 8), np.float32)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def history(user: str, length: int = 40, first: int = 0) -> History:
    column = np.arange(first, first + length)
    return History(column, column, column, column, column, user=user)


def kept(states: UserStates, owner: int, user: str, wanted: int = TOKENS) -> bool:
    return states.get(owner, history(user), wanted) is not None


def test_a_state_serves_the_history_that_it_was_made_of() -> None:
    """It is found where a history begins with its tokens and as many may be known; each look is counted."""
    states = UserStates(10**6)
    owner = states.begin()
    assert not kept(states, owner, "ada")
    states.put(owner, history("ada"), STATE)
    assert states.get(owner, history("ada", 50), TOKENS) is STATE
    assert states.get(owner, history("ada", 50), 32) is STATE
    assert states.get(owner, history("ada", 12), 0) is None
    assert states.get(owner, history("ada", first=1), TOKENS) is None  # the window has moved on
    assert states.get(owner, history("bob"), TOKENS) is None
    assert states.asked == {"hit": 1, "extended": 1, "miss": 4}


@pytest.mark.parametrize("name", ["items_n", "features_n", "actions_n", "ts_ms_n", "kinds_n"])
@pytest.mark.parametrize(("place", "same"), [(3, False), (TOKENS - 1, False), (TOKENS + 1, True)])
def test_another_token_among_the_first_makes_it_useless(name: str, place: int, same: bool) -> None:
    """Whichever column differs; tokens after the state do not matter."""
    states = UserStates(10**6)
    states.put(owner := states.begin(), history("ada"), STATE)
    other = history("ada")
    columns = {
        each: getattr(other, each).copy() for each in ("items_n", "features_n", "actions_n", "ts_ms_n", "kinds_n")
    }
    columns[name][place] += 1
    assert (states.get(owner, History(**columns, user="ada"), TOKENS) is not None) == same


def test_the_time_of_the_next_token_decides_too() -> None:
    """The state's last token looks back from it."""
    states = UserStates(10**6)
    states.put(owner := states.begin(), history("ada"), STATE)
    later = history("ada")
    later.ts_ms_n[TOKENS:] += 1
    assert states.get(owner, later, TOKENS) is None


def test_memory_is_bounded_by_what_was_not_used_for_longest() -> None:
    """What is used again stays; bytes are those of the arrays and a little more; no state is larger than the bound."""
    states = UserStates(3 * (STATE.nbytes + 600))
    owner = states.begin()
    for user in "abc":
        states.put(owner, history(user), STATE)
    assert kept(states, owner, "a")
    states.put(owner, history("d"), STATE)
    assert [kept(states, owner, user) for user in "abcd"] == [True, False, True, True]
    assert 3 * STATE.nbytes < states.bytes <= 3 * (STATE.nbytes + 600)
    larger: NDArray[np.float32] = np.zeros((8, TOKENS, 8), np.float32)
    states.put(owner, history("e"), larger)
    assert not kept(states, owner, "e")
    assert kept(states, owner, "d")
    for user in "acd":
        states.forget(user)
    assert states.bytes == 0


def test_states_of_another_snapshot_are_dropped() -> None:
    """A newer scorer begins with none; an older one that still answers neither finds nor keeps any."""
    states = UserStates(10**6)
    old = states.begin()
    states.put(old, history("ada"), STATE)
    new = states.begin()
    assert states.bytes == 0
    assert not kept(states, new, "ada")
    states.put(new, history("bob"), STATE)
    assert not kept(states, old, "bob")
    states.put(old, history("cid"), STATE)
    assert not kept(states, new, "cid")
    assert kept(states, new, "bob")


def test_what_nobody_has_used_for_long_is_dropped() -> None:
    """At the next question of anybody, so that a forgotten user leaves nothing for long."""
    clock = Clock()
    states = UserStates(10**6, clock)
    owner = states.begin()
    states.put(owner, history("ada"), STATE)
    clock.now_s = IDLE_S - 1
    states.put(owner, history("bob"), STATE)
    clock.now_s = IDLE_S + 1
    assert not kept(states, owner, "eve")
    assert states.bytes < STATE.nbytes + 600
    assert kept(states, owner, "bob")
