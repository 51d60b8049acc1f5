"""Micro-batches: examples laid end to end (packed), values with offsets, never padded.

B = examples, L = tokens of all of them, T = targets of all of them, R = requests of all of them.
Example b has the tokens offsets[b] to offsets[b + 1]. Positions and queries count the tokens of the batch, not those of
the example. Source of the columns: stream/example.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stream.example import Example


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """The examples of one micro-batch, in their order."""

    offsets: NDArray[np.int64]  # [B+1] into the tokens
    keys: NDArray[np.uint64]  # [L] items or attribute values
    actions: NDArray[np.uint64]  # [L] action names, NO_KEY where the token has none
    ts_ms: NDArray[np.int64]  # [L] event time
    kinds: NDArray[np.uint8]  # [L] of stream.example.Kind
    users: NDArray[np.uint64]  # [B]
    positions: NDArray[np.int64]  # [T] the target's own token, into L
    queries: NDArray[np.int64]  # [T] the last token before its request, into L; -1: the user has no history
    owners: NDArray[np.int64]  # [T] its example, into B, ascending
    requests: NDArray[np.int64]  # [T] 0 to R-1; equal for targets that were shown together
    request_ms: NDArray[np.int64]  # [T]
    label_offsets: NDArray[np.int64]  # [T+1] into the labels
    labels: NDArray[np.uint64]  # names of the actions on the targets

    def part(self, start: int, stop: int) -> "PackedBatch":
        """Return the examples from one to before another; requests keep their numbers."""
        tokens = slice(self.offsets[start], self.offsets[stop])
        targets = self.targets_of(start, stop)
        labels = slice(self.label_offsets[targets.start], self.label_offsets[targets.stop])
        return PackedBatch(
            offsets=self.offsets[start : stop + 1] - tokens.start,
            **{name: getattr(self, name)[tokens] for name in ("keys", "actions", "ts_ms", "kinds")},
            users=self.users[start:stop],
            positions=self.positions[targets] - tokens.start,
            queries=np.where(self.queries[targets] < 0, -1, self.queries[targets] - tokens.start),
            owners=self.owners[targets] - start,
            requests=self.requests[targets],
            request_ms=self.request_ms[targets],
            label_offsets=self.label_offsets[targets.start : targets.stop + 1] - labels.start,
            labels=self.labels[labels],
        )

    def targets_of(self, start: int, stop: int) -> slice:
        """Return where the targets of the examples from one to before another are."""
        first, last = np.searchsorted(self.owners, (start, stop)).tolist()
        return slice(first, last)

    def shares(self, count: int) -> list[tuple[int, int]]:
        """Return the examples of each of so many shares of about as many tokens, from one to before another."""
        wanted = np.arange(count + 1) * len(self.keys) / count
        bounds = np.searchsorted((self.offsets[1:] + self.offsets[:-1]) / 2, wanted).tolist()
        return list(pairwise([0, *bounds[1:-1], len(self.users)]))


def collate(examples: Sequence[Example]) -> PackedBatch:
    """Lay examples end to end; requests are numbered by example, then by their number in the example."""
    offsets_B = _offsets(np.array([len(example.keys) for example in examples], np.int64))
    owner_T = np.repeat(np.arange(len(examples), dtype=np.int64), [len(example.positions) for example in examples])
    start_T = offsets_B[owner_T]
    query_T = _join((example.queries for example in examples), np.int64)
    request_T = _join((example.requests for example in examples), np.int64)
    return PackedBatch(
        offsets=offsets_B,
        keys=_join((example.keys for example in examples), np.uint64),
        actions=_join((example.actions for example in examples), np.uint64),
        ts_ms=_join((example.ts_ms for example in examples), np.int64),
        kinds=_join((example.kinds for example in examples), np.uint8),
        users=np.array([example.user for example in examples], np.uint64),
        positions=_join((example.positions for example in examples), np.int64) + start_T,
        queries=np.where(query_T < 0, -1, query_T + start_T),
        owners=owner_T,
        requests=np.unique(owner_T << 32 | request_T, return_inverse=True)[1],  # the number in an example is a u32
        request_ms=_join((example.request_ms for example in examples), np.int64),
        label_offsets=_offsets(_join((np.diff(example.label_offsets) for example in examples), np.int64)),
        labels=_join((example.labels for example in examples), np.uint64),
    )


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each part begins, and last where all end, [B+1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _join(columns: Iterable[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    """Concatenate any number of columns as one dtype."""
    return np.concatenate([np.empty(0, dtype), *columns], dtype=dtype)
