"""Checked columns of ids, texts, labels and numbers: what is wrong with which cell."""

from typing import Any, Final, NamedTuple

import polars as pl

from stream.schema.ids import MAX_ID_BYTES

NO_VALUES: Final = ("", "null", "nan", "none", "na", "n/a", "\\n", "<null>", "<na>", "undefined")
"""Texts, in small letters, by which exports write that there is no id."""
SHOWN_ACTIONS: Final = (
    *("impression", "impressions", "impress", "imp", "imps", "exposure", "exposures", "exposed", "expose"),
    *("shown", "show", "display", "displayed"),
)
"""Actions, in small letters, of items that were only shown."""
NEGATIVE_LABELS: Final = ("0", "false", "f", "0.0", "no", "n")
POSITIVE_LABELS: Final = ("1", "true", "t", "1.0", "yes", "y")
_CODES: Final = 0.001  # share of other numbers from which 0 and 1 are codes of actions as these are
_DECIMAL_COMMA: Final = r"^([+-]?\d*),(\d+)$"
_THOUSANDS: Final = r"^[+-]?[1-9]\d{0,2},\d{3}$"
_BLANKS: Final = r"^[+-]?\d{1,3}([ \x{a0}\x{2009}\x{202f}']\d{3})+([.,]\d+)?$"
_OBJECT: Final = r"""^\{\s*("|'|\})"""
_LIST: Final = r"""^\[\s*("|'|-?\d[\d.]*\s*[,\]\s])"""
_SCIENTIFIC: Final = r"^-?\d(\.\d+)?[eE]\+?\d+$"

_KINDS: Final[tuple[tuple[tuple[Any, ...], str], ...]] = (
    ((pl.List, pl.Array), "lists"),
    ((pl.Struct,), "objects"),
    ((pl.Datetime,), "datetimes"),
    ((pl.Date,), "dates"),
    ((pl.Time,), "times of a day"),
    ((pl.Duration,), "durations"),
    ((pl.Boolean,), "booleans"),
    ((pl.Binary,), "bytes"),
    ((pl.Null,), "nothing"),
)


class Fault(NamedTuple):
    """What is wrong with some cells of a column."""

    wrong: pl.Series
    """One Boolean a row."""
    column: str
    reason: str
    """Goes on from "which", and is the same for all of them."""


def texts_of(column: pl.Series) -> pl.Series:
    """Return a column as texts; missing values stay missing, lists become so, the float 42.0 is "42"."""
    if holds_lists(column):
        return pl.Series(column.name, [None], dtype=pl.String).new_from_index(0, len(column))
    if column.dtype.is_float():
        whole = column == column.round()
        as_int = column.set(~whole.fill_null(False), None).cast(pl.Int64, strict=False).cast(pl.String)
        return as_int.zip_with(as_int.is_not_null(), column.cast(pl.String)).alias(column.name)
    if isinstance(column.dtype, pl.Decimal):
        text = column.cast(pl.String)
        return text.str.replace(r"\.0+$", "") if column.dtype.scale else text
    if column.dtype == pl.Binary:
        return pl.Series(column.name, [_decoded(value) for value in column], dtype=pl.String)
    if column.dtype == pl.Duration:
        return column.dt.to_string("iso")
    return column.cast(pl.String, strict=False)


def ids_of(column: pl.Series) -> pl.Series:
    """Return a column of ids as texts, without the blanks around them."""
    return texts_of(column).str.strip_chars()


def given_ids(column: pl.Series) -> pl.Series:
    """Return a column of ids as texts, null where exports write that there is none."""
    texts = ids_of(column)
    return texts.set(texts.str.to_lowercase().is_in(NO_VALUES).fill_null(False), None)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def id_faults(texts: pl.Series) -> list[Fault]:
    """Return what is wrong with a column of ids, by `ids_of`."""
    missing = texts.is_null() | texts.str.to_lowercase().is_in(NO_VALUES)
    long = texts.str.len_bytes() > MAX_ID_BYTES
    rounded = texts.str.contains(_SCIENTIFIC)
    odd = (texts.str.starts_with("{") | texts.str.starts_with("[")).fill_null(False)
    objects, lists = ((texts.str.contains(each).fill_null(False) if odd.any() else odd) for each in (_OBJECT, _LIST))
    return [
        Fault(missing, texts.name, "is no id"),
        Fault(long.fill_null(False), texts.name, f"is an id longer than {MAX_ID_BYTES} bytes"),
        Fault(rounded.fill_null(False), texts.name, "is a rounded number: ids that differ may look alike"),
        Fault(objects, texts.name, "is an object, no id: name one of its fields"),
        Fault(lists, texts.name, "is a list, no id (--shown is for slates)"),
    ]


def numbers_of(column: pl.Series) -> tuple[pl.Series, list[Fault]]:
    """Return a column of numbers as floats; of texts also those with a decimal comma, where it marks no thousands."""
    if column.dtype == pl.String:
        texts = column.str.strip_chars()
        thousands = texts.str.contains(_THOUSANDS).fill_null(False)
        blanks = texts.str.contains(_BLANKS).fill_null(False)
        column = texts.str.replace(_DECIMAL_COMMA, "$1.$2")
    else:
        thousands = blanks = pl.repeat(False, len(column), eager=True)
    values = column.cast(pl.Float64, strict=False)
    reason = "has a comma that may mark thousands or decimals: write a point, or none"
    return values, [
        Fault(~values.is_finite().fill_null(False) & ~thousands & ~blanks, column.name, "is no number"),
        Fault(thousands, column.name, reason),
        Fault(blanks, column.name, "has blanks between its thousands: write none"),
    ]


def with_points(column: pl.Series) -> pl.Series:
    """Return texts with decimal points where all are numbers, some with a decimal comma and none perhaps thousands."""
    given = given_ids(column).drop_nulls()
    commas = given.str.contains(_DECIMAL_COMMA)
    plain = (commas | given.str.contains(r"^[+-]?\d+$")).all() and not given.str.contains(_THOUSANDS).any()
    return column.str.strip_chars().str.replace(_DECIMAL_COMMA, "$1.$2") if plain and commas.any() else column


def kind_of(dtype: pl.DataType) -> str:
    """Return what a column of a type holds, in words: integers, datetimes, lists …"""
    if dtype.is_integer():
        return "integers"
    if dtype.is_numeric():
        return "numbers"
    return next((kind for types, kind in _KINDS if dtype in types), "texts")


def holds_lists(column: pl.Series) -> bool:
    """Return whether a column holds lists or structs, so that no cell of it is an id, a time or a number."""
    return column.dtype.is_nested()


def are_labels(names: pl.Series) -> bool:
    """Return whether actions, in small letters, are labels: most are, and few are other numbers."""
    given = names.filter(names.is_not_null() & ~names.is_in(NO_VALUES))
    odd = given.filter(~given.is_in((*NEGATIVE_LABELS, *POSITIVE_LABELS)))
    if not len(given) or not len(odd):
        return len(given) > 0
    codes = int(odd.str.contains(r"^\d+(\.0)?$").sum())
    negative = bool(given.is_in(NEGATIVE_LABELS).any())
    return negative and len(odd) * 2 < len(given) and codes <= max(len(given) > 4, _CODES * len(given))


def are_whole(texts: pl.Series) -> bool:
    """Return whether ids, by `ids_of`, are all whole numbers, some perhaps written as floats (7.0, 7.)."""
    given = texts.filter(texts.is_not_null() & ~texts.str.to_lowercase().is_in(NO_VALUES))
    return len(given) > 0 and bool(given.str.contains(r"^-?\d+(\.0*)?$").all())


def without_fraction(texts: pl.Series) -> pl.Series:
    """Return ids with those that are whole floats as integers: "7.0" is "7"."""
    return texts.str.replace(r"^(-?\d+)\.0*$", "$1") if texts.str.contains(".", literal=True).any() else texts
