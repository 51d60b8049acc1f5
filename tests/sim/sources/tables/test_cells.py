"""Cells of any type as texts."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.sources.open_log import open_log
from sim.sources.roles.guess import guess, sample_of
from sim.sources.tables.cells import id_faults, kind_of, numbers_of, texts_of
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import open_table

CELLS: list[tuple[Any, pl.DataType, str | None]] = [
    (1, pl.UInt64(), "1"),
    (2.0, pl.Float32(), "2"),
    (Decimal("7.00"), pl.Decimal(10, 2), "7"),
    (True, pl.Boolean(), "true"),
    ("a", pl.Categorical(), "a"),
    ("a", pl.Enum(["a"]), "a"),
    (b"a", pl.Binary(), "a"),
    (date(2024, 1, 31), pl.Date(), "2024-01-31"),
    (datetime(2024, 1, 31), pl.Datetime("ms"), "2024-01-31 00:00:00.000"),
    (time(10, 30), pl.Time(), "10:30:00"),
    (timedelta(seconds=90), pl.Duration("us"), "PT1M30S"),
    ([1, 2], pl.List(pl.Int64()), None),
    ([1, 2], pl.Array(pl.Int64(), 2), None),
    ({"a": 1}, pl.Struct({"a": pl.Int64()}), None),
    (None, pl.Null(), None),
]


def test_slates_may_be_arrays(tmp_path: Path) -> None:
    """Lists of one length, as Parquet of numpy has them."""
    frame = pl.DataFrame({"user_id": ["u"], "ts": [1_700_000_000]}).with_columns(
        shown=pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2)), clicked=pl.lit("b").reshape((1, 1))
    )
    frame.write_parquet(tmp_path / "log.parquet")
    log = open_log([str(tmp_path / "log.parquet")], {"shown": "shown", "clicked": "clicked"})
    assert (log.summary.shown, log.summary.actions) == (2, {"click": 1})


@pytest.mark.parametrize(("cell", "dtype", "text"), CELLS, ids=[str(dtype) for _, dtype, _ in CELLS])
def test_a_column_of_any_type_is_texts_or_nothing(
    cell: Any, dtype: pl.DataType, text: str | None, tmp_path: Path
) -> None:
    """Beside columns with roles it stops nobody."""
    column = pl.Series("c", [cell, None], dtype=dtype)
    assert texts_of(column).to_list() == [text, None]
    assert kind_of(dtype)
    frame = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "ts": [1_700_000_000] * 2, "c": column})
    frame.write_parquet(tmp_path / "log.parquet")
    assert open_log([str(tmp_path / "log.parquet")], {}).users == 2
    table = open_table([str(tmp_path / "log.parquet")], TableSettings())
    assert guess(sample_of(table)).sure


@pytest.mark.parametrize("number", ["1 471,99", "1\u202f471", "12\u00a0471.5", "1'471'000"])
def test_blanks_between_thousands_are_named(number: str) -> None:
    """Of any width, as are Swiss apostrophes; two numbers are none."""
    values, faults = numbers_of(pl.Series("price", ["4", number, "1 47"]))
    assert values.to_list() == [4.0, None, None]
    wrong = {fault.reason: fault.wrong.arg_true().to_list() for fault in faults if fault.wrong.any()}
    assert wrong == {"is no number": [2], "has blanks between its thousands: write none": [1]}


def test_objects_and_lists_are_no_ids() -> None:
    """Written in texts; ids in brackets or braces are ids."""
    texts = pl.Series("id", ['{"id": 7}', "{'a': 1}", "{}", "['a', 'b']", '["a"]', "[1, 2]", "{3F25-A}", "[a]", "a"])
    wrong = {fault.reason[:12]: fault.wrong.arg_true().to_list() for fault in id_faults(texts) if fault.wrong.any()}
    assert wrong == {"is an object": [0, 1, 2], "is a list, n": [3, 4, 5]}
