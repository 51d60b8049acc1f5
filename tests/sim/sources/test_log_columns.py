"""The flags of a recorded log."""

from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import open_log
from tests.sim.sources.logs import triples


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
        ({"skip_bad": "-1"}, "--skip-bad -1 is no limit"),
        ({"skip_bad": "nan%"}, "--skip-bad nan% is no limit"),
        ({"rating": "r", "positive_from": float("nan")}, "--positive-from nan is no rating"),
        ({"separator": ""}, "--separator is empty"),
        ({"quote": "abc"}, "--quote abc is no single character"),
        ({"encoding": "klingon"}, "--encoding klingon is unknown"),
        ({"encoding": "undefined"}, "--encoding undefined is unknown"),
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


def test_of_several_columns_the_first_value_counts(tmp_path: Path) -> None:
    """For users and items, a column of whole numbers among them; who has none is bad. A comma may be part of a name."""
    path = tmp_path / "log.csv"
    path.write_text("user,anon,sku,ts\n1.0,a,x,1700000000\nNULL,b,,1700000001\n,,z,1700000002\n")
    flags = {"user": "user, anon", "item": "sku,anon", "time": "ts", "skip_bad": "1"}
    log = open_log([str(path)], flags)
    assert triples(log) == [("1.0", "x", 1_700_000_000), ("b", "b", 1_700_000_001)]
    assert log.summary.bad == {"user, anon is no id": 1}
    assert "2 of 3 rows have their id in 'anon', as no column named before it has one." in log.remarks
    path.write_text('"user,anon",sku,ts\n1,x,1700000000\n')
    assert triples(open_log([str(path)], {"user": "user,anon", "item": "sku"})) == [("1", "x", 1_700_000_000)]
    with pytest.raises(SimError, match="has no column 'nobody'; its columns are user,anon, sku, ts"):
        open_log([str(path)], {"user": "sku,nobody"})
