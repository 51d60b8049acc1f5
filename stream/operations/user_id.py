"""A user's id as somebody has typed it."""

from stream.errors import HstuError


def encode_user(user: str) -> bytes:
    """Return the id as the UTF-8 that Kafka's keys have.

    Raises:
        HstuError: It is none: arguments that are not UTF-8 come as halves of surrogate pairs.
    """
    try:
        return user.encode()
    except UnicodeEncodeError:
        raise HstuError(f"The user's id {user[:80]!a} is not UTF-8, so no event can have it; give another.") from None
