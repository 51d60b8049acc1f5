"""The project's own regression over counts (model/fusion/clicks.py), asked at once and given its labels later.

T = impressions, L = tokens of all users' sequences. A user's history is the last TOKENS tokens of before the request:
items shown, and clicked on at the time of the click. What is learnt is the request as it was asked, with its labels.
"""

from typing import Final

import numpy as np
from delayed_stream import NEVER, Floats, Ints, Shown
from numpy.typing import NDArray

from model.fusion.click_tables import VIEWED, Impressions
from model.fusion.clicks import Clicks

TOKENS: Final = 64
_YEARS: Final = 2**43  # ms


def counted(shown: Shown, learn_ms_T: Ints, label_T: NDArray[np.bool_]) -> Floats:
    """Return the logits of all impressions when each is learnt, with its label, at a time no less than its own, [T]."""
    asked, clicks = impressions(shown, label_T), Clicks(1, [False])
    clicks.grow(int(shown.item.max()) + 1)
    starts, logits_T = np.arange(0, len(label_T), shown.places), np.empty(len(label_T))
    request = np.tile(np.arange(len(starts)), 2)
    learns = np.repeat([False, True], len(starts))
    order = np.lexsort((request, learns, np.concatenate((shown.ts_ms[starts], learn_ms_T[starts]))))
    request, learns = request[order], learns[order]
    edges = np.concatenate(([0], 1 + np.flatnonzero(np.diff(learns)), [len(learns)]))
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = slice(request[first] * shown.places, (request[stop - 1] + 1) * shown.places)
        columns = {name: getattr(asked, name)[part] for name in asked._fields[:7]}
        found = clicks.step(asked._replace(**columns), shown.ts_ms[part], learn=bool(learns[first]))
        if not learns[first]:
            logits_T[part] = found[0, :, 0]
    return logits_T


def impressions(shown: Shown, label_T: NDArray[np.bool_]) -> Impressions:
    """Return the impressions with their histories, in one array of all users' tokens."""
    count, acted = len(shown.ts_ms), np.flatnonzero(shown.acted_ms < NEVER)
    user_L = np.concatenate((shown.user, shown.user[acted]))
    at_L = user_L * _YEARS + np.concatenate((shown.ts_ms, shown.acted_ms[acted]))
    order = np.argsort(at_L, kind="stable")
    item_L, what_L = np.concatenate((shown.item, shown.item[acted])), np.repeat([VIEWED, 0], [count, len(acted)])
    end_T = np.searchsorted(at_L[order], shown.user * _YEARS + shown.ts_ms)
    first_T = np.searchsorted(user_L[order], shown.user)
    return Impressions(
        targets=shown.item,
        groups=np.arange(count) // shown.places,
        starts=np.maximum(first_T, end_T - TOKENS),
        queries=end_T - 1,
        places=np.arange(count) % shown.places,
        labels=label_T[:, None],
        towers=np.empty((count, 0)),
        rows=item_L[order],
        whats=what_L[order],
    )
