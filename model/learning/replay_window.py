"""Examples of one user that follow one another as one: the same tokens and targets, with less history to repeat.

A stream that hurries makes an example of each target, with the user's last N tokens; so its N / 2 next examples have
most tokens in common, and training on all of them encodes each token N / 2 times. Joined, they are one example that
ends with the last target. Positions count from the user's first token: `first` is that of an example's first one.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.example import Example

_OF_TOKENS: Final = ("keys", "actions", "ts_ms", "kinds")


def joined(earlier: Example, later: Example, limit: int) -> Example | None:
    """Return both examples of a user as one that begins with the earlier one's first token.

    None where that has more than `limit` tokens, where tokens between them are missing, or where a target of the later
    one asks about tokens before the earlier one.
    """
    start, end = earlier.first, max(_end(earlier), _end(later))
    begins = later.first + max(0, int(later.queries.min(initial=len(later.keys))))
    if end - start > limit or begins < start or later.first > _end(earlier):
        return None
    shift = later.first - start
    columns: dict[str, Any] = {name: _overlaid(earlier, later, name, end) for name in _OF_TOKENS}
    return replace(
        later,
        first=start,
        **columns,
        positions=np.concatenate((earlier.positions, later.positions + shift)),
        queries=np.concatenate((earlier.queries, np.where(later.queries < 0, -1, later.queries + shift))),
        requests=np.concatenate((earlier.requests, later.requests)),
        request_ms=np.concatenate((earlier.request_ms, later.request_ms)),
        label_offsets=np.concatenate((earlier.label_offsets, earlier.label_offsets[-1] + later.label_offsets[1:])),
        labels=np.concatenate((earlier.labels, later.labels)),
    )


def _end(example: Example) -> int:
    return example.first + len(example.keys)


def _overlaid(earlier: Example, later: Example, name: str, end: int) -> NDArray[Any]:
    """Return a column of the tokens from the earlier example's first one to `end`."""
    start, column = earlier.first, np.empty(end - earlier.first, getattr(earlier, name).dtype)
    column[: len(earlier.keys)] = getattr(earlier, name)
    at = max(later.first - start, 0)
    column[at : _end(later) - start] = getattr(later, name)[at - (later.first - start) :]
    return column


def shortened(example: Example, history: int) -> Example:
    """Return an example with at most so many tokens before its first target's request; targets stay."""
    if not len(example.queries):
        return example
    cut = max(0, int(example.queries.min()) + 1 - history)
    columns: dict[str, Any] = {name: getattr(example, name)[cut:] for name in _OF_TOKENS}
    return replace(
        example,
        first=example.first + cut,
        **columns,
        positions=example.positions - np.int32(cut),
        queries=np.where(example.queries < 0, np.int32(-1), example.queries - np.int32(cut)),
    )
