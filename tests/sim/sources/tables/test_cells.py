"""Types of columns as people read them."""

import polars as pl
import pytest

from sim.sources.tables.cells import in_words


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (pl.Int64(), "integers"),
        (pl.Decimal(10, 2), "numbers"),
        (pl.Datetime("us", "Asia/Tokyo"), "timestamps"),
        (pl.List(pl.List(pl.String)), "lists of lists of texts"),
        (pl.Array(pl.Float32, 3), "lists of numbers"),
        (pl.Struct({"a": pl.Int8}), "objects"),
        (pl.Null(), "nothing"),
        (pl.Object(), "values of no known type"),
    ],
)
def test_types_are_in_words(dtype: pl.DataType, words: str) -> None:
    """Without a name of the library that reads them."""
    assert in_words(dtype) == words
