"""The flags of a recorded log."""

from typing import Any

import pytest

from sim.errors import SimError
from sim.sources.log_columns import LogSettings


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"positive_from": 4}, "speak of ratings; name their column by --rating"),
        ({"rating_as": "impression"}, "speak of ratings"),
        ({"rating": "r", "action": "a"}, "not by both"),
        ({"rating": "r", "request": "q", "rating_as": "impression"}, "needs --positive-from"),
        ({"clicked": "c"}, "name the column of the slate by --shown"),
        ({"bad_rows": "f"}, "--bad-rows keeps the rows that --skip-bad leaves out"),
        ({"skip_bad": "some"}, "--skip-bad some is no limit"),
        ({"separator": ""}, "--separator is empty"),
        ({"quote": "abc"}, "--quote abc is no single character"),
        ({"encoding": "klingon"}, "--encoding klingon is unknown"),
        ({"time_unit": "weeks"}, "--time-unit weeks is unknown"),
        ({"time_unit": "s", "time_format": "%Y"}, "remove one"),
        ({"time_zone": "Mars/Base"}, "--time-zone Mars/Base is unknown"),
        ({"request": "q"}, "--request needs --action or --rating"),
        ({"shuffle_ties": -1}, "--shuffle-ties -1 is no seed"),
        ({"rating": "r", "rating_as": "view"}, "--rating-as view is unknown; known are action, impression"),
        ({"limit": 0}, "--limit 0 leaves no rows"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, Any], sentence: str) -> None:
    """Before anything is read."""
    with pytest.raises(SimError, match=sentence):
        LogSettings(**flags)
