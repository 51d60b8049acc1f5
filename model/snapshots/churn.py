"""Churn of two snapshots: how much of a user's top k another snapshot replaces, over a fixed panel of users.

The panel is the users with the smallest keys, which are hashes, so a sample; with the histories that the earlier
snapshot had learned. So later events change nothing, and the same two snapshots have the same churn.
"""

from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np

from model.errors import ModelError
from model.query.as_of import Earlier, learned_ms
from model.serving.answerer import Answerer
from model.serving.sequences import Sequences
from model.storage.snapshot import Snapshot
from model.storage.snapshot_diff import Churn

K: Final = 10
_LOOKED_AT: Final = 10  # users for one of the panel: those who came later are left out


class Users(Sequences, Protocol):
    """Sequences that know whose they are."""

    def first_users(self, most: int) -> list[str]:
        """Return the users with the smallest keys."""


def churn(a: Snapshot, b: Snapshot, sequences: Users, panel: int) -> Churn:
    """Return how the top ten of a panel of users change from a to b.

    Raises:
        ModelError: There is no user with a history, or the stores cannot be read.
    """
    ts_ms = min(learned_ms(a.manifest), learned_ms(b.manifest))
    then = Earlier(sequences, ts_ms)
    answerers = [Answerer(snapshot, then) for snapshot in (a, b)]
    changed = [_changed(answerers, user, ts_ms) for user in _panel(sequences, then, panel)]
    if not changed:
        raise ModelError("no store on this host has a user with events that the earlier snapshot had learned")
    return Churn(
        users=len(changed),
        ts_ms=ts_ms,
        mean=float(np.mean(changed)),
        unchanged=sum(share == 0 for share in changed),
        replaced=sum(share == 1 for share in changed),
    )


def _panel(sequences: Users, then: Sequences, panel: int) -> Iterator[str]:
    """Yield the users of the panel."""
    try:
        known = sequences.first_users(_LOOKED_AT * panel)
    except Exception as error:  # whatever store it is, its errors end here
        raise ModelError(str(error)) from error
    for user in known:
        if panel and _has_history(then, user):
            panel -= 1
            yield user


def _has_history(then: Sequences, user: str) -> bool:
    try:
        tokens: Any = then.tokens(user, 1)
    except Exception as error:
        raise ModelError(str(error)) from error
    return tokens is not None


def _changed(answerers: list[Answerer], user: str, ts_ms: int) -> float:
    """Return the share of the second one's items that the first one's have not; 1 where no item is left."""
    before, after = ({item.item_id for item in answerer.topk(user, K, ts_ms).items} for answerer in answerers)
    return len(after - before) / len(after) if after else float(bool(before))
