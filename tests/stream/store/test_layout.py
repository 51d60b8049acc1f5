from hypothesis import given, strategies as st

from stream.store import layout
from stream.store.layout import Request, Target, Timer, UserState

keys = st.integers(0, 2**64 - 1)
timers = st.tuples(st.integers(0, 2**62), st.integers(0, 1), keys, keys)


def test_the_state_of_a_user_round_trips() -> None:
    """What is written of a user is what is read, and so is a request."""
    target = Target(3, 2, 1, 1000, [2**64 - 1])
    user = UserState("u", 5, 0, 4, 2, 1, {1: 2**64 - 1}, [target], 5)
    assert layout.USERS.decode(layout.ENCODER.encode(user)) == user
    request = Request(1, 2**63, 9, 10, -1, 4, [7, 8], {1: [2**64 - 1]})
    assert layout.REQUESTS.decode(layout.ENCODER.encode(request)) == request
    assert request.targets() == [Target(4, -1, 1, 9, []), Target(5, -1, 1, 9, [2**64 - 1])]


@given(timers, timers)
def test_timers_are_sorted_as_their_keys(one: Timer, other: Timer) -> None:
    """By time, then by what, user and number."""
    assert layout.parse_timer(layout.timer_key(*one)) == one
    assert (layout.timer_key(*one) < layout.timer_key(*other)) == (one < other)
