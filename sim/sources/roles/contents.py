"""What the cells of a sample's columns are: how many values and gaps they have, and whether one follows another."""

import re
from typing import Final

import polars as pl

from sim.sources.tables.cells import NO_VALUES, ids_of, numbers_of, texts_of

_MOST_ACTIONS: Final = 100
_FEW_ACTIONS: Final = 12  # in any number of rows
_REPEATED: Final = 3  # values of a column in several rows from which it is no chance that another follows it


def are_empty(column: pl.Series) -> pl.Series:
    """Return which cells hold nothing, or what exports write for that."""
    return ids_of(column).str.to_lowercase().is_in(NO_VALUES).fill_null(True)


def emptiness(column: pl.Series) -> float:
    """Return the share of empty cells."""
    return int(are_empty(column).sum()) / max(1, len(column))


def values_of(column: pl.Series) -> pl.Series:
    """Return the different texts of a column in their order, without those that stand for none."""
    texts = ids_of(column).unique(maintain_order=True).drop_nulls()
    return texts.filter(~texts.str.to_lowercase().is_in(NO_VALUES))


def distinct(column: pl.Series) -> int:
    """Return how many values a column has."""
    return len(values_of(column))


def are_numbers(column: pl.Series) -> bool:
    """Return whether a column holds numbers, and little else."""
    if column.dtype in (pl.Binary, pl.Duration):
        return False
    values, _ = numbers_of(column)
    return len(values) > 0 and int(values.is_finite().sum()) >= 0.95 * len(values)


def are_few(column: pl.Series) -> bool:
    """Return whether a column has as few values as there are actions."""
    if column.dtype in (pl.Binary, pl.Duration):
        return False
    texts = texts_of(column).drop_nulls()
    return 0 < texts.n_unique() <= min(_MOST_ACTIONS, max(_FEW_ACTIONS, len(texts) // 3))


def follows(sample: pl.DataFrame, name: str, of: str) -> bool:
    """Return whether a column has one value for each of another, of which some occur often: a title of an item."""
    pairs = pl.DataFrame({"of": ids_of(sample[of]), "value": texts_of(sample[name])}).drop_nulls()
    each = pairs.group_by("of").agg(pl.col("value").first(), values=pl.col("value").n_unique(), rows=pl.len())
    repeated = each.filter(pl.col("rows") > 1)["value"].n_unique()
    return len(each) > 0 and bool((each["values"] == 1).all()) and repeated >= _REPEATED


def words_of(name: str) -> str:
    """Return a column's name as small words with _ between: isClick is is_click, of a nested field its last part."""
    last = name.partition(":")[0].rpartition(".")[2]
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", last).lower()
    return re.sub(r"[^a-z0-9]+", "_", parted).strip("_")
