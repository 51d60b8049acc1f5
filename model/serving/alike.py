"""What is like an item, and who is like a user.

Items are compared by their vectors, users by what the encoder makes of their histories: the vector by which it asks for
items, so that users are alike whom it recommends alike. Counts have no part in either.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.serving.names import Names
from model.serving.popular import why_popular
from model.serving.responses import (
    SimilarItem,
    SimilarUser,
    UnknownError,
    check_items,
    check_k,
    check_user,
    check_users,
)
from model.serving.scorer import Scorer
from model.serving.sequences import Sequences, read_tokens
from stream.example import id_key

RequestTime = Callable[[NDArray[Any]], int]  # of a user's tokens


def similar_items(scorer: Scorer, names: Names, item: str, k: int) -> tuple[str | None, list[SimilarItem]]:
    """Return an item's title, and the live items whose vectors are most like its own.

    Raises:
        QueryError: The item or k is refused.
        UnknownError: The snapshot does not know the item.
    """
    check_items([item], "item")
    check_k(k)
    row = int(scorer.items.rows(np.array([id_key(item)], np.uint64))[0])
    if row < 0:
        raise UnknownError(names.why_unknown(item))
    return names.title_at(row), [
        SimilarItem(item_id=names.text(int(near)), title=names.title_at(int(near)), similarity=float(cosine))
        for near, cosine in zip(*scorer.similar(row, k), strict=True)
    ]


class UserVectors:
    """Vectors of users as they are now.

    Args:
        scorer: Of a snapshot.
        sequences: Reader of the users' tokens.
        request_ms: When a user with these tokens asks, in event time.
    """

    def __init__(self, scorer: Scorer, sequences: Sequences, request_ms: RequestTime) -> None:
        self._scorer, self._sequences, self._request_ms = scorer, sequences, request_ms

    def vector(self, user: str) -> tuple[NDArray[np.float32], int]:
        """Return the user's unit vector and the number of tokens that are in it.

        Raises:
            UnknownError: The snapshot knows nothing of the user.
        """
        tokens = read_tokens(self._sequences, user, self._scorer.settings.max_len)
        history = self._scorer.history(tokens)
        if reason := why_popular(len(tokens), len(history)):
            raise UnknownError(f"There is nothing to compare of user {user!r}: {reason}.")
        return self._scorer.query(history, self._request_ms(tokens)), len(history)

    def nearest(self, user: str, users: Sequence[str], k: int) -> tuple[list[SimilarUser], dict[str, str]]:
        """Return who of `users` is most like a user, and who cannot be compared and why; ties in the given order.

        Raises:
            QueryError: User, users, or k are refused.
            UnknownError: The snapshot knows nothing of the user.
        """
        check_user(user)
        check_users(users)
        check_k(k, of="users")
        own_D, found, unknown, met = self.vector(user)[0], list[SimilarUser](), dict[str, str](), {user}
        for other in users:
            if other not in met:
                met.add(other)
                try:
                    vector_D, tokens = self.vector(other)
                    cosine = min(1.0, max(-1.0, float(own_D @ vector_D)))  # rounding may lead beyond
                    found.append(SimilarUser(user=other, similarity=cosine, tokens=tokens))
                except UnknownError as error:
                    unknown[other] = str(error)
        return sorted(found, key=lambda one: -one.similarity)[:k], unknown
