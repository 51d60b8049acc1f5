"""Runs on disk: all rows, in buckets of rising keys, whatever the size of a run."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from sim.sources import runs
from sim.sources.runs import Runs


@pytest.fixture(autouse=True, scope="module")
def every_key_is_sampled() -> None:
    """Small runs have few keys."""
    patch = pytest.MonkeyPatch()
    patch.setattr(runs, "SAMPLE", 1)


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(st.lists(st.integers(-3, 8), max_size=6), max_size=8), run_rows=st.integers(1, 12))
def test_buckets_hold_all_rows_and_never_cut_a_key(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], run_rows: int
) -> None:
    """Keys rise from bucket to bucket; rows of one key keep the order in which they came."""
    folder = Path(tmp_path_factory.mktemp("runs"))
    made, number = Runs(folder, "key", run_rows), 0
    for keys in batches:
        made.add(
            pl.DataFrame(
                {"key": keys, "number": range(number, number + len(keys))}, {"key": pl.Int64, "number": pl.Int64}
            )
        )
        number += len(keys)
    assert made.empty == (number == 0)
    buckets = list(made.buckets())
    rows = [row for bucket in buckets for row in bucket.iter_rows()]
    flat = [key for keys in batches for key in keys]
    assert sorted(rows) == sorted(zip(flat, range(number), strict=True))
    ranges = [(bucket["key"].min(), bucket["key"].max()) for bucket in buckets if len(bucket)]
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    for key in set(flat):
        of_key = [number for each, number in rows if each == key]
        assert of_key == sorted(of_key)
    assert not any(folder.iterdir())
