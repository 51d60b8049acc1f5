import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import model.counting.pair_counts
from model.counting.pair_counts import PairCounts

HALF_LIFE_MS, START_MS = 1000, 1_700_000_000_000
Pairs = list[tuple[int, int, int]]
pairs_in_order = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 600 * HALF_LIFE_MS)), max_size=60
)


def after(*calls: Pairs, limit: int = 64) -> PairCounts:
    pairs = PairCounts(HALF_LIFE_MS, limit)
    pairs.grow(10)
    for every in calls:
        rows, columns, ts_ms = np.array(every, np.int64).reshape(-1, 3).T
        pairs.add(rows, columns, START_MS + ts_ms)
    return pairs


def row(pairs: PairCounts, i: int) -> dict[int, float]:
    """Return a row's columns and their counts, which have to ascend."""
    starts, lengths, columns, sums = pairs.columns
    part = slice(starts[i], starts[i] + lengths[i])
    assert (np.diff(columns[part]) > 0).all()
    return dict(zip(columns[part].tolist(), sums[part].tolist(), strict=True))


@given(pairs_in_order)
@settings(max_examples=50, deadline=None)  # the first one compiles
def test_counts_agree_with_the_formula(every: Pairs) -> None:
    """A pair's count is the sum of 2^((ts - origin) / half-life), found by row."""
    pairs = after(every)
    for i in range(6):
        wanted: dict[int, float] = {}
        for j in {column for r, column, _ in every if r == i}:
            since_ms = START_MS - pairs.clock.origin * HALF_LIFE_MS
            times = [since_ms + ts_ms for r, column, ts_ms in every if (r, column) == (i, j)]
            wanted[j] = math.fsum(2.0 ** (ts_ms / HALF_LIFE_MS) for ts_ms in times)
        assert row(pairs, i) == pytest.approx(wanted, rel=1e-9, abs=0)
    asked = np.array([5, -1, 0, 3, 3])
    index, column, count = pairs.entries(asked)
    everything = [(n, j, c) for n, i in enumerate(asked.tolist()) if i >= 0 for j, c in row(pairs, i).items()]
    assert list(zip(index.tolist(), column.tolist(), count.tolist(), strict=True)) == everything
    assert pairs.filled[:6].tolist() == [bool(row(pairs, i)) for i in range(6)]


@given(pairs_in_order, st.integers(0, 60), st.sampled_from([4, 8, 64]))
def test_counts_have_the_same_bits_however_they_were_split_into_calls(every: Pairs, split: int, limit: int) -> None:
    """Also where rows are full and drop columns."""
    whole, halves = after(every, limit=limit), after(every[:split], every[split:], limit=limit)
    step = whole.clock.origin - halves.clock.origin  # of their own each; a power of two loses no bit
    for i in range(6):
        assert {j: math.ldexp(count, step) for j, count in row(whole, i).items()} == row(halves, i)


@given(pairs_in_order, st.integers(0, 60), st.sampled_from([4, 8, 64]))
def test_stretches_leave_little_behind(every: Pairs, split: int, limit: int) -> None:
    """No more places than twice those of the stretches, a restart among the pairs or not."""
    restored = PairCounts.from_state(after(every[:split], limit=limit).state())
    rows, columns, ts_ms = np.array(every[split:], np.int64).reshape(-1, 3).T
    restored.add(rows, columns, START_MS + ts_ms)
    for pairs in (after(every, limit=limit), restored):
        assert pairs.used <= 3 * pairs.rooms.sum()


@given(pairs_in_order)
def test_a_full_row_drops_its_smaller_half(every: Pairs) -> None:
    """What is left is what a dictionary keeps that drops the smallest, of equal ones those with the smaller number."""
    kept: dict[int, dict[int, float]] = {i: {} for i in range(6)}
    for i, j, _ in every:
        if j not in kept[i] and len(kept[i]) == 4:
            kept[i] = dict(sorted(kept[i].items(), key=lambda pair: (pair[1], pair[0]))[2:])
        kept[i][j] = kept[i].get(j, 0.0) + 1.0
    pairs = after([(i, j, 0) for i, j, _ in every], [(9, 9, 0)], limit=4)
    one = pairs.clock.weights(np.array([START_MS]))[0]
    assert all({j: count / one for j, count in row(pairs, i).items()} == kept[i] for i in range(6))


def test_rows_grow_side_by_side() -> None:
    """Thousands of pairs, in an order that makes all rows grow at once, keep their places and use little memory."""
    count = np.arange(40_000)
    pairs, rows, columns = PairCounts(HALF_LIFE_MS), count % 200, count // 200
    for part in np.array_split(count, 7):
        pairs.add(rows[part], columns[part], np.full(len(part), START_MS))
    one = pairs.clock.weights(np.array([START_MS]))[0]
    assert all(row(pairs, i) == dict.fromkeys(range(200), one) for i in range(200))
    assert len(pairs.columns.columns) < 4 * 40_000


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.counting.pair_counts).failed == 0


@given(pairs_in_order, pairs_in_order, st.sets(st.integers(0, 9)))
def test_the_dead_are_in_no_pair(before: Pairs, then: Pairs, dead: set[int]) -> None:
    """What is left is what was counted without them; a row that is counted with again begins from nothing."""
    pairs = after(before)
    pairs.forget(np.array(sorted(dead), np.int64))
    alive = [(i, j, ts_ms) for i, j, ts_ms in before if not {i, j} & dead]
    for calls, counted in (([], alive), ([then], [*alive, *then])):
        for every in calls:
            rows, columns, ts_ms = np.array(every, np.int64).reshape(-1, 3).T
            pairs.add(rows, columns, START_MS + ts_ms)
        wanted = after(counted)
        step = wanted.clock.origin - pairs.clock.origin
        for i in range(6):
            assert {j: math.ldexp(count, step) for j, count in row(wanted, i).items()} == pytest.approx(row(pairs, i))


def test_a_row_longer_than_a_lower_limit_is_cut_when_it_grows() -> None:
    """The limit of a fusion's rows falls while the vocabulary grows: the largest counts stay, half as many as it."""
    pairs = after([(0, column, 0) for column in (1, 2, 3, 4, 5, 6, 3, 5)], limit=8)
    pairs.limit = 4
    pairs.add(np.array([0]), np.array([9]), np.array([0]))
    assert pairs.entries(np.array([0]))[1].tolist() == [3, 5, 9]
