"""Rows of one instant: spread over milliseconds, in order or shuffled."""

from itertools import groupby

import numpy as np
import polars as pl
from hypothesis import given, strategies as st

from sim.sources.ties import spread_ties

rows = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6) | st.integers(1000, 1002)), min_size=1, max_size=40)
seeds = st.none() | st.integers(0, 5)


def spread(log: list[tuple[str, int]], seed: int | None) -> list[int]:
    users, ts_ms = zip(*log, strict=True)
    return spread_ties(pl.Series(users), np.array(ts_ms, np.int64), seed).tolist()


@given(rows)
def test_ties_become_successive_milliseconds_in_the_files_order(log: list[tuple[str, int]]) -> None:
    """Each row gets the earliest time that is not before its own and lies behind the user's row before it."""
    last: dict[str, int] = {}
    by_hand = [0] * len(log)
    for row in sorted(range(len(log)), key=lambda row: log[row][1]):
        user, ts_ms = log[row]
        by_hand[row] = last[user] = max(ts_ms, last.get(user, -1) + 1)
    assert spread(log, None) == by_hand


@given(rows, st.integers(0, 5))
def test_a_shuffle_moves_rows_of_one_instant_alone(log: list[tuple[str, int]], seed: int) -> None:
    """Each user's times are those of the file's order; only which of equal rows gets which is random."""
    shuffled, kept = spread(log, seed), spread(log, None)
    tie = list(zip(log, range(len(log)), strict=True))
    for _, group in groupby(sorted(tie), key=lambda entry: entry[0]):
        members = [row for _, row in group]
        assert sorted(shuffled[row] for row in members) == sorted(kept[row] for row in members)


def test_a_shuffle_is_by_its_seed() -> None:
    """The same seed makes the same order, another seed another."""
    log = [("a", 0)] * 50
    assert spread(log, 1) == spread(log, 1) != spread(log, 2)
    assert sorted(spread(log, 1)) == spread(log, None) == list(range(50))


@given(rows, seeds)
def test_no_two_rows_of_a_user_share_a_time(log: list[tuple[str, int]], seed: int | None) -> None:
    """Times rise strictly, and never lie before the recorded ones."""
    times = spread(log, seed)
    assert len({(user, ts_ms) for (user, _), ts_ms in zip(log, times, strict=True)}) == len(log)
    assert all(new >= old for new, (_, old) in zip(times, log, strict=True))
