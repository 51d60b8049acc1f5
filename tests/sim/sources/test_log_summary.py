"""Sentences about a log: equal for equal logs, and of the user who may be many."""

import polars as pl
import pytest

from sim.sources.log_summary import LogSummary


def said_of(users: list[str]) -> list[str]:
    summary, n = LogSummary(users=len(set(users))), len(users)
    rows = pl.DataFrame({"row": range(n), "ts": range(n), "user": users, "item": ["i"] * n})
    summary.add_rows(rows, slates=False, drop_duplicates=False)
    return [said for said in summary.sentences(()) if said.startswith("User ")]


@pytest.mark.parametrize("tied", ["1", "9", "a"])
def test_a_user_who_stands_for_many_is_said_beside_others_with_as_many_rows(tied: str) -> None:
    """Every time, whatever order a hash gives them; also where another has more."""
    others = [f"u{n}" for n in range(30)] * 4
    for _ in range(5):
        assert said_of(["0"] * 30 + [tied] * 30 + others)[0].startswith("User '0' has 17% of the rows")
    assert said_of(["0"] * 30 + [tied] * 50 + others)[0].startswith("User '0' has 15%")
    assert said_of([tied] * 90 + others)[0].startswith(f"User '{tied}' has 43%")
    assert not said_of(others)
