from dataclasses import fields
from itertools import pairwise

import numpy as np
from hypothesis import given, strategies as st

from model.data.labels import TargetSelector
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


@given(st.lists(examples(), max_size=4), st.integers(0, 4), st.integers(0, 4))
def test_a_part_is_a_batch_of_its_examples(parts: list[Example], a: int, b: int) -> None:
    """But for requests, which keep their numbers; so have the targets that are selected of it."""
    start, stop = sorted((min(a, len(parts)), min(b, len(parts))))
    batch, expected = collate(parts), collate(parts[start:stop])
    part = batch.part(start, stop)
    for name in {field.name for field in fields(part)} - {"requests"}:
        np.testing.assert_array_equal(getattr(part, name), getattr(expected, name), err_msg=name, strict=True)
    assert np.unique(part.requests, return_inverse=True)[1].tolist() == expected.requests.tolist()
    selector = TargetSelector(["click"], ["hide"])
    targets, alone = selector.select(batch).part(batch.targets_of(start, stop)), selector.select(expected)
    for field in fields(targets):
        np.testing.assert_array_equal(getattr(targets, field.name), getattr(alone, field.name), strict=True)


@given(st.lists(examples(), max_size=6), st.integers(1, 4))
def test_shares_are_all_examples_in_their_order(parts: list[Example], count: int) -> None:
    """None twice, and no share has more than its part of the tokens and one example's half on each side."""
    batch = collate(parts)
    shares = batch.shares(count)
    assert [b for start, stop in shares for b in range(start, stop)] == list(range(len(parts)))
    tokens = [int(batch.offsets[stop] - batch.offsets[start]) for start, stop in shares]
    longest = max((len(part.keys) for part in parts), default=0)
    assert len(shares) == count
    assert max(tokens) <= len(batch.keys) / count + longest
