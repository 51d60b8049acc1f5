"""What is said of logs that are not those that a store has read."""

from types import SimpleNamespace
from typing import Any

import pytest

from stream.errors import OtherLogError
from stream.operations.store_logs import refuse_other_logs
from stream.store.layout import LogState

PLACE = ("actions", 0)


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ((0, 0), r"actions\[0\] ends at offset 0, but this data directory has read it up to 40"),
        ((0, 39), r"actions\[0\] ends at offset 39, but"),
        ((0, 40), r"actions\[0\] holds another record at offset 39"),
        ((40, 40), None),
    ],
    ids=["made again", "cut", "gone from the middle", "deleted by retention"],
)
def test_a_log_without_the_last_record_read_is_refused_by_what_it_is(
    bounds: tuple[int, int], sentence: str | None
) -> None:
    """One that ends before it holds no other record there."""
    reached: Any = SimpleNamespace(logs=[LogState(39, b"x" * 8)])
    if sentence is None:
        refuse_other_logs({PLACE: bounds}, reached, lambda place, offset: None)
        return
    with pytest.raises(OtherLogError, match=sentence):
        refuse_other_logs({PLACE: bounds}, reached, lambda place, offset: None)
