import msgspec

from stream.store import layout


def test_the_state_of_a_user_round_trips() -> None:
    """What is written of a user is what is read."""
    target = layout.Target(3, 2, 1, 1000, [2**64 - 1])
    user = layout.UserState("u", 5, 0, 4, 2, {1: 2**64 - 1}, [layout.Request(1, 2**63, 9, [7], [target])], [target], 5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(user), type=layout.UserState) == user
