"""Whole slates in one row: the ids of a list or of a text, read as single ids are, and the rows that they become.

a cell                        is
a list, of any type of ids    its elements
a1-0 b2-1                     ids with their labels, where no column has the clicked ones
a|b;c,d e                     the ids between the first of | ; , and blank that the first rows have
['a' 'b c'], ["a", 7], [1 2]  a list as Python, NumPy or JSON writes it; (1, 2), {1,2}, array([1, 2]) as well
0 1 0, as clicked             a label for each of the ids shown
1, 2, -1, -1                  the first two: what fills lists up is no item (padding.py)
empty, NULL, nan              no slate, no clicks
"""

import ast
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sim.errors import SimError
from sim.sources.rows.padding import NOTHING, padding_of
from sim.sources.tables.cells import (
    NEGATIVE_LABELS,
    NO_VALUES,
    POSITIVE_LABELS,
    Fault,
    are_whole,
    id_faults,
    ids_of,
    without_fraction,
)

_BETWEEN: Final = ("\n", "\t", "|", ";", ",", " ")  # what separates the ids of a slate in one text
_LABELLED: Final = r"-[01]$"
_TOKEN: Final = r"""[bu]?'[^']*'|[bu]?"[^"]*"|[^\s,;|\[\]'"]+"""
_QUOTED: Final = r"""(?s)^[bu]?(?:'(.*)'|"(.*)")$"""
_STRANGE: Final = r"[(){}\[\]]"  # what no list of ids has outside of quotes
_PAIRS: Final = r"[(){}\[\]:=]"  # nor one with quotes
_OBJECT: Final = "{}"  # stands for such a cell
_OTHER_LABEL: Final = r"[:_=/]([01])$"
_MAKER: Final = r"(?:(?:np\.)?array|list|set|frozenset|tuple|List|Set|Seq|Vector|Array|WrappedArray|ArrayBuffer)?"
_NESTED: Final = rf"(?s)^\s*{_MAKER}\(\s*([\[({{].*[\])}}])\s*(?:,\s*dtype=[^()]*)?\)\s*$"  # array([1, 2], dtype=int64)
_WRAPPED: Final = rf"^\s*{_MAKER}(?:\(([^()]*)\)|\{{([^{{}}]*)\}}|<([^<>]*)>)\s*$"
_UUID: Final = r"^\s*\{[0-9A-Fa-f]{8}-[0-9A-Fa-f-]{27}\}\s*$"
_CUT: Final = ("...", "…")  # by which NumPy and pandas leave out the middle of a long list
_NEARLY: Final = 0.95
_PARTS, _CLICKED, SHOWS = "\0parts", "\0clicked", "\0shows"


class _Ids(NamedTuple):
    """Ids of cells, one after another."""

    owner: NDArray[np.intp]
    """Row of each."""
    texts: pl.Series


class SlateReader:
    """Reads the slates of rows.

    Args:
        shown: Column of slates.
        clicked: Column of the items that were clicked, or None.
        item: Column of the item of a row that is no slate, or None.
        frames: The first rows.
        owner: The log, for errors.

    Raises:
        SimError: The column holds lists of something else than ids.
    """

    def __init__(
        self, shown: str, clicked: str | None, item: str | None, frames: Sequence[pl.DataFrame], owner: str
    ) -> None:
        self._shown, self._clicked, self._item = shown, clicked, item
        for name in filter(None, (shown, clicked)):
            for frame in frames:
                inner = getattr(frame[name].dtype, "inner", None)
                if frame[name].dtype == pl.Struct or (inner is not None and inner.is_nested()):
                    raise SimError(f"Column {name!r} of {owner} holds objects, and a slate is a list of ids.")
        self._wrapped = {name for name in (shown, clicked) if name and _are_wrapped([frame[name] for frame in frames])}
        self._between = " "
        samples = [frame[shown] for frame in frames]
        for sample in samples:
            if sample.dtype == pl.String:
                plain = self._unwrapped(sample).str.strip_chars()
                plain = plain.filter(~_is_list(plain).fill_null(False))
                self._between = next((each for each in _BETWEEN if plain.str.contains(each, literal=True).any()), " ")
                break
        found = {name: [self._ids(frame[name]) for frame in frames] for name in (shown, clicked) if name}
        self.by_label = clicked is not None and _are_labels_of(found[shown], found[clicked])
        """Whether the column of what was clicked has a label for each item shown."""
        self.padding = {
            name: padding
            for name, those in found.items()
            if not (self.by_label and name == clicked)
            and (padding := next(filter(None, (padding_of(*each) for each in those)), None)) is not None
        }
        """What fills up the lists of a column."""
        ids = pl.concat([each.texts for each in found[shown]])
        self.labelled = clicked is None and int(ids.str.contains(_LABELLED).sum()) * 2 > len(ids) > 0
        if clicked is None and not self.labelled:
            _refuse_other_labels(ids, shown, owner)
        named = (None if self.by_label else clicked, item)
        others = [self._ids(frame[name]).texts for name in named if name for frame in frames]
        self._whole = are_whole(pl.concat([ids, *others]))

    def read(self, frame: pl.DataFrame, alone: pl.Series) -> tuple[pl.DataFrame, list[Fault]]:
        """Return the items shown and clicked of each row, and its own item; and what is wrong with them.

        Args:
            frame: The rows.
            alone: Whether a row says that its own item was shown, which is a slate of one.
        """
        nothing = pl.repeat(None, len(frame), dtype=pl.String, eager=True)
        item = self._plain(ids_of(frame[self._item])) if self._item else nothing
        item = item.set(item.str.to_lowercase().is_in(NO_VALUES).fill_null(False), None).alias("item")
        parts, faults = self._lists(frame[self._shown])
        empty = parts.list.len() == 0
        if self.by_label:
            clicked, more = self._with_labels(frame)
            faults += more
        elif self._clicked is not None:
            clicked, more = self._lists(frame[self._clicked], gaps=True)
            cells = self._plain(ids_of(frame[self._clicked])).alias("cell")
            whole = pl.select(parts.list.contains(cells)).to_series().fill_null(False)  # one id, with blanks in it
            clicked = pl.select(pl.when(whole).then(pl.concat_list(cells)).otherwise(clicked)).to_series()
            mine = pl.select(pl.when(item.is_not_null()).then(pl.concat_list(item)).otherwise(pl.lit([]))).to_series()
            strange = clicked.list.set_difference(mine.zip_with(empty, parts)).list.len() > 0
            strange &= ~(empty & item.is_null())
            faults += [*more, Fault(strange, self._clicked, "has items that were not shown")]
        else:
            clicked = pl.repeat([], len(frame), dtype=pl.List(pl.String), eager=True)
        if self.labelled:
            marked = parts.list.eval(pl.element().str.contains(_LABELLED)).list.all()
            faults.append(Fault(~marked.fill_null(True), self._shown, "has items without -0 or -1 behind them"))
        single = pl.select(pl.concat_list(item + ("-0" if self.labelled else ""))).to_series()
        parts = single.zip_with(empty & alone & item.is_not_null(), parts)
        if self._item is not None:
            faults += id_faults(item.alias(self._item))[1:]
        return pl.DataFrame({"item": item, _PARTS: parts, _CLICKED: clicked}), faults

    def _plain(self, texts: pl.Series) -> pl.Series:
        return without_fraction(texts) if self._whole else texts

    def _lists(self, column: pl.Series, *, gaps: bool = False) -> tuple[pl.Series, list[Fault]]:
        """Return the distinct ids of each cell, none for an empty one, and what is wrong with them."""
        owner, texts = self._ids(column)
        texts = self._plain(texts)
        if (padding := self.padding.get(column.name) or self.padding.get(self._shown)) is not None:
            kept = ~padding.places(owner, texts)
            owner, texts = owner[kept], texts.filter(pl.Series(kept))
        missing = texts.is_null() | texts.str.to_lowercase().is_in(NO_VALUES).fill_null(False)
        lone = pl.Series(np.bincount(owner, minlength=len(column))[owner] == 1)
        faults = [
            Fault(_rows_with(owner, fault.wrong & ~missing, len(column)), column.name, f"has one that {fault.reason}")
            for fault in id_faults(texts)[1:]
        ]
        cut = _rows_with(owner, texts.is_in(_CUT), len(column))
        faults.append(Fault(cut, column.name, "has ... among its items, for others that were left out"))
        if padding is not None and padding.text != NOTHING:
            inside = _rows_with(owner, texts.str.to_lowercase() == padding.text, len(column)) & ~_rows_with(
                owner, lone, len(column)
            )
            faults.append(Fault(inside, column.name, "has between its items what fills up other lists"))
        if not gaps:
            wrong = _rows_with(owner, missing & ~lone, len(column))
            faults.append(Fault(wrong, column.name, "has an item without an id"))
        return _as_lists(_Ids(owner, texts), ~missing, len(column)).alias(column.name), faults

    def _with_labels(self, frame: pl.DataFrame) -> tuple[pl.Series, list[Fault]]:
        """Return the items of each row whose label says that they were clicked, and what is wrong with the labels."""
        assert self._clicked is not None
        rows, (owner, labels), shown = len(frame), self._ids(frame[self._clicked]), self._ids(frame[self._shown])
        odd = pl.Series(np.bincount(owner, minlength=rows) != np.bincount(shown.owner, minlength=rows))
        small = labels.str.to_lowercase()
        strange = ~small.is_in((*POSITIVE_LABELS, *NEGATIVE_LABELS)).fill_null(False)
        faults = [
            Fault(odd, self._clicked, "has not one label for each item shown"),
            Fault(_rows_with(owner, strange, rows), self._clicked, "has something else than labels, 0 or 1"),
        ]
        even = ~odd.to_numpy()
        clicked = small.filter(pl.Series(even[owner])).is_in(POSITIVE_LABELS).fill_null(False)
        texts = self._plain(shown.texts.filter(pl.Series(even[shown.owner])))
        return _as_lists(_Ids(shown.owner[even[shown.owner]], texts), clicked, rows), faults

    def _ids(self, column: pl.Series) -> _Ids:
        """Return all ids of a column; those of lists that are missing are null."""
        if isinstance(column.dtype, pl.Array):
            column = column.arr.to_list()
        if column.dtype == pl.String:
            column = self._split(column)
        if not isinstance(column.dtype, pl.List):
            there = column.is_not_null()
            return _Ids(np.flatnonzero(there), ids_of(column.filter(there)))
        lengths = column.list.len().fill_null(0).to_numpy()
        texts = ids_of(column.filter(pl.Series(lengths > 0)).explode())
        return _Ids(np.repeat(np.arange(len(column)), lengths), texts)

    def _unwrapped(self, column: pl.Series) -> pl.Series:
        """Return texts of lists in other brackets as those in square ones, where a column holds nothing else."""
        if column.name not in self._wrapped:
            return column
        return column.str.replace(_NESTED, "$1").str.replace(_WRAPPED, "[$1$2$3]")

    def _split(self, column: pl.Series) -> pl.Series:
        cells = self._unwrapped(column).str.strip_chars()
        listed = _is_list(cells).fill_null(False)
        quoted = listed & cells.str.contains(r"['\"]").fill_null(False)
        commas = listed & ~quoted & cells.str.contains(",", literal=True).fill_null(False)
        parts = cells.str.split(self._between)
        parts = cells.str.strip_chars("[] ").str.split(",").zip_with(commas, parts)
        if (listed & ~commas).any():
            parts = cells.str.extract_all(_TOKEN).zip_with(listed & ~commas, parts)
        bare = cells.str.replace_all(r"""'[^']*'|"[^"]*\"""", "").str.strip_chars(" \n[]")
        strange = listed & (bare.str.contains(_STRANGE) | (quoted & bare.str.contains(_PAIRS))).fill_null(False)
        if (escaped := quoted & cells.str.contains("\\", literal=True).fill_null(False)).any():
            strange &= ~escaped
            read = [_of_python(cell) if odd else None for cell, odd in zip(cells, escaped, strict=True)]
            parts = pl.Series(read, dtype=pl.List(pl.String)).zip_with(escaped, parts)
        parts = pl.Series([[_OBJECT]], dtype=pl.List(pl.String)).new_from_index(0, len(cells)).zip_with(strange, parts)
        stripped = pl.element().str.strip_chars().str.replace(_QUOTED, "$1$2").str.strip_chars()
        return parts.list.eval(stripped.filter(stripped != ""))


def _as_lists(ids: _Ids, kept: pl.Series, rows: int) -> pl.Series:
    """Return the distinct ids of each row that are kept."""
    found = pl.DataFrame({"row": ids.owner, "part": ids.texts}).filter(kept)
    found = found.group_by("row", maintain_order=True).agg(pl.col("part").unique(maintain_order=True))
    every = pl.DataFrame({"row": np.arange(rows)}).join(found, "row", "left", maintain_order="left")
    return every.select(pl.col("part").fill_null(pl.lit([], dtype=pl.List(pl.String)))).to_series()


def _are_labels_of(shown: Sequence[_Ids], clicked: Sequence[_Ids]) -> bool:
    """Return whether lists hold 0 and 1 only, some of several, nearly always as many as the ids shown beside them."""
    texts = pl.concat([ids.texts.str.to_lowercase() for ids in clicked])
    negative = texts.is_in(NEGATIVE_LABELS)
    if not negative.any() or not (negative | texts.is_in(POSITIVE_LABELS)).all():
        return False
    even = rows = most = 0
    for ids, labels in zip(shown, clicked, strict=True):
        size = max(ids.owner.max(initial=0), labels.owner.max(initial=0)) + 1
        items, each = np.bincount(ids.owner, minlength=size), np.bincount(labels.owner, minlength=size)
        even, rows = even + int(((items == each) & (items > 0)).sum()), rows + int((items > 0).sum())
        most = max(most, int(each.max()))
    return most > 1 and even >= _NEARLY * rows


def _are_wrapped(samples: Sequence[pl.Series]) -> bool:
    """Return whether all texts of a column that are not empty are lists in any brackets."""
    texts = [sample.drop_nulls().str.strip_chars() for sample in samples if sample.dtype == pl.String]
    texts = [each.filter(~each.str.to_lowercase().is_in(NO_VALUES)) for each in texts]
    if not any(len(each) for each in texts):
        return False
    listed = [
        _is_list(each) | each.str.contains(_NESTED) | (each.str.contains(_WRAPPED) & ~each.str.contains(_UUID))
        for each in texts
    ]
    return all(each.all() for each in listed)


def _refuse_other_labels(ids: pl.Series, shown: str, owner: str) -> None:
    """Refuse ids nearly all of which end in 0 or 1 behind a sign, as labels do.

    Raises:
        SimError: They do.
    """
    ends = ids.str.extract(_OTHER_LABEL)
    if ends.n_unique() > 1 and ends.count() >= _NEARLY * len(ids):
        raise SimError(
            f"Column {shown!r} of {owner} has ids such as {ids[0]!r}, which end as if a label were behind each; write "
            "labels as -0 and -1, or name the clicked ones by --clicked."
        )


def _of_python(cell: str | None) -> list[str]:
    """Return the texts of a list with escapes, as JSON or Python writes it; the cell itself if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(cell or "[]")
            return [_OBJECT if isinstance(each, list | tuple | dict) else str(each) for each in found]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return [str(cell)]


def _is_list(cells: pl.Series) -> pl.Series:
    return cells.str.contains(r"(?s)^\s*\[.*\]\s*$")


def _rows_with(owner: NDArray[np.intp], wrong: pl.Series, rows: int) -> pl.Series:
    found = np.zeros(rows, bool)
    found[owner[wrong.fill_null(False).to_numpy()]] = True
    return pl.Series(found)


def is_slate() -> pl.Expr:
    """Return whether a row of `SlateReader.read` has a slate."""
    return pl.col(_PARTS).list.len() > 0


def as_rows(rows: pl.DataFrame, *, labelled: bool, named: bool, same: bool) -> pl.DataFrame:
    """Return a row for each shown item, with a click if it has one, and one for what a row says of its own item.

    Args:
        rows: The rows, with the columns of `SlateReader.read`.
        labelled: Whether the label of an item stands behind it.
        named: Whether a column says what was done to the row's own item.
        same: Whether the item clicked is the row's own, so that its action is the click.
    """
    slates = rows.filter(is_slate())
    made = pl.format("row-{}", pl.col("row") + 1)
    own = slates.filter(named and not same and pl.col("item").is_not_null() & pl.col("action").is_not_null())
    ids = pl.col(_PARTS).list.eval(pl.element().str.head(-2)) if labelled else pl.col(_PARTS)
    own = own.filter(~((pl.col("action") == "click") & pl.col(_CLICKED).list.contains(pl.col("item"))))
    in_slate = ids.list.contains(pl.col("item"))
    own = own.with_columns(request=pl.coalesce("request", pl.when(in_slate).then(made)))
    own_name = pl.col("action") if same else pl.lit(None, pl.String)
    shown = slates.with_columns(request=pl.coalesce("request", made), own=own_name).drop("item", "action")
    shown = shown.explode(_PARTS).rename({_PARTS: "item"})
    item = pl.col("item")
    clicked = item.str.ends_with("-1") if labelled else item.is_in(pl.col(_CLICKED))
    name = pl.when(clicked).then(pl.coalesce("own", pl.lit("click")))
    shown = shown.with_columns(
        action=name, item=item.str.head(-2) if labelled else item, value=pl.lit(None, pl.Float64)
    )
    parts = (shown, True), (rows.filter(~is_slate()), False), (own, False)
    columns = rows.columns
    return pl.concat(
        [
            part.with_columns(pl.lit(shows).alias(SHOWS)).select(*(n for n in columns if n != _PARTS), SHOWS)
            for part, shows in parts
        ]
    ).sort("row", maintain_order=True)
