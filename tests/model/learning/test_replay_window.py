from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from model.learning.replay_window import joined, shortened
from stream.example import Example, Kind, id_key
from tests.batches import make_example, with_targets

CLICK = id_key("click")
Target = tuple[int, int, int]  # position, query and request, from the user's first token


def cut(start: int, end: int, targets: list[Target]) -> Example:
    """Return tokens start to end of a user whose k-th token has key k, with targets."""
    made = make_example([(k, CLICK, 1000 + k, Kind.ACTION) for k in range(start, end)], user=7)
    made = with_targets(made, [(p - start, max(q - start, -1), r, 1000 + p, [CLICK] * (r % 3)) for p, q, r in targets])
    return Example(**{name: getattr(made, name) for name in made.__slots__} | {"first": start})


def content(example: Example) -> list[Any]:
    """Return tokens and targets with positions from the user's first token."""
    first = example.first
    targets = [
        (
            p + first,
            q if q < 0 else q + first,
            r,
            ms,
            example.labels[example.label_offsets[t] : example.label_offsets[t + 1]].tolist(),
        )
        for t, (p, q, r, ms) in enumerate(
            zip(
                example.positions.tolist(),
                example.queries.tolist(),
                example.requests.tolist(),
                example.request_ms.tolist(),
                strict=True,
            )
        )
    ]
    return [first, example.keys.tolist(), example.ts_ms.tolist(), example.kinds.tolist(), targets]


def at(position: int) -> Target:
    return position, position - 1, position


@given(st.integers(0, 20), st.integers(2, 20), st.integers(0, 30), st.integers(2, 20), st.integers(4, 40))
def test_joined_examples_are_the_example_cut_at_once(
    first: int, length: int, later: int, later_length: int, limit: int
) -> None:
    """From the earlier one's first token to the last of both, with all targets; or None if that cannot be."""
    end, later_end = first + length, later + later_length
    one, other = cut(first, end, [at(end - 1)]), cut(later, later_end, [at(later_end - 1)])
    found, whole_end = joined(one, other, limit), max(end, later_end)
    if whole_end - first > limit or later > end or later_end - 2 < first:
        assert found is None
    else:
        assert found is not None
        assert content(found) == content(cut(first, whole_end, [at(end - 1), at(later_end - 1)]))


def test_a_request_without_history_keeps_the_users_first_token() -> None:
    """Its query stays -1, and the example is not joined to one that begins later."""
    start = cut(0, 2, [(0, -1, 1), (1, 0, 2)])
    assert content(shortened(start, 1)) == content(start)
    grown = joined(start, cut(0, 3, [at(2)]), 8)
    assert grown is not None
    assert grown.queries.tolist() == [-1, 0, 1]
    assert joined(cut(1, 3, [at(2)]), start, 8) is None


@given(st.integers(0, 9), st.integers(1, 20), st.integers(1, 20), st.integers(1, 30))
def test_a_shortened_example_keeps_its_targets_and_some_history(
    first: int, before: int, after: int, history: int
) -> None:
    """Exactly `history` tokens up to the first target's query, if there were as many."""
    end = first + before + after
    targets = [at(position) for position in range(first + before, end)]
    start = max(first, first + before - history)
    assert content(shortened(cut(first, end, targets), history)) == content(cut(start, end, targets))


def test_an_example_without_targets_is_left_alone() -> None:
    """There is nothing to keep history for."""
    example = cut(3, 9, [])
    assert content(shortened(example, 1)) == content(example)
    assert np.array_equal(shortened(example, 1).queries, example.queries)
