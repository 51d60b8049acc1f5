from itertools import pairwise

import numpy as np
from hypothesis import given, strategies as st

from model.data.micro_batch import collate
from stream.example import Example
from tests.batches import examples


@given(st.lists(examples(), max_size=4))
def test_a_batch_says_the_same_of_every_token_and_target_as_its_example(parts: list[Example]) -> None:
    """Tokens, targets and labels stand end to end; positions and queries point at the same tokens as before."""
    batch = collate(parts)
    tokens, targets = [], []
    for b, part in enumerate(parts):
        start = len(tokens)
        assert batch.offsets[b] == start
        tokens += zip(part.keys, part.actions, part.ts_ms, part.kinds, strict=True)
        for t, (position, query) in enumerate(zip(part.positions.tolist(), part.queries.tolist(), strict=True)):
            labels = part.labels[part.label_offsets[t] : part.label_offsets[t + 1]].tolist()
            query = -1 if query < 0 else start + query
            targets.append((b, start + position, query, int(part.request_ms[t]), labels))
    assert batch.offsets[-1] == len(tokens)
    assert list(zip(batch.keys, batch.actions, batch.ts_ms, batch.kinds, strict=True)) == tokens
    assert batch.users.tolist() == [part.user for part in parts]
    ends = batch.label_offsets
    labels = [batch.labels[a:b].tolist() for a, b in pairwise(ends)]
    columns = batch.owners, batch.positions, batch.queries, batch.request_ms
    assert list(zip(*(column.tolist() for column in columns), labels, strict=True)) == targets


@given(st.lists(examples(), max_size=4))
def test_requests_are_numbered_through_the_batch(parts: list[Example]) -> None:
    """The numbers are 0 to R-1 in the order of (example, number there); one request is one number, and no other."""
    requests = [(b, request) for b, part in enumerate(parts) for request in part.requests.tolist()]
    numbers = {request: number for number, request in enumerate(sorted(set(requests)))}
    assert collate(parts).requests.tolist() == [numbers[request] for request in requests]


@given(st.lists(examples(), max_size=3))
def test_dtypes_do_not_depend_on_what_is_in_the_batch(parts: list[Example]) -> None:
    """Offsets and times are int64, keys uint64, kinds uint8, also in a batch of nothing."""
    batch = collate(parts)
    by_dtype = {
        np.int64: ("offsets", "ts_ms", "positions", "queries", "owners", "requests", "request_ms", "label_offsets"),
        np.uint64: ("keys", "actions", "users", "labels"),
        np.uint8: ("kinds",),
    }
    for dtype, names in by_dtype.items():
        assert {getattr(batch, name).dtype for name in names} == {np.dtype(dtype)}
