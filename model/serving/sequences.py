"""Where users' tokens are read from: a protocol, and a reader that knows no user."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from stream.example import TOKEN_DTYPE


class Sequences(Protocol):
    """A reader of users' tokens; called from several threads at once."""

    @property
    def problem(self) -> str:
        """What keeps some of them from being read, in a few words without paths; empty where nothing does."""

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Return the user's last tokens, oldest first, as TOKEN_DTYPE; None: the user is unknown."""


class NoSequences:
    """Knows no user: for queries that bring their own sequence."""

    problem = ""

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Return None."""


def read_tokens(sequences: Sequences, user: str, last: int) -> NDArray[Any]:
    """Return the user's last tokens, oldest first; none where the user is unknown.

    Raises:
        ModelError: They cannot be read.
    """
    try:
        tokens = sequences.tokens(user, last)
        return np.zeros(0, TOKEN_DTYPE) if tokens is None else tokens
    except Exception as error:  # whatever store it is, its errors end here
        raise ModelError(f"The sequence of user {user!r} cannot be read: {error}") from error
