"""Tables on disk (CSV, TSV and Parquet, by extension), and checked columns of ids, texts and numbers.

No type is guessed in a CSV or TSV: every cell stays a text, so that the id 007 does not become 7.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sim.errors import SimError
from stream.schema.ids import MAX_ID_BYTES

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_table(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table, or the named columns of it.

    Raises:
        SimError: The file cannot be read, is of another kind, has no rows, or lacks a column.
    """
    try:
        there = _columns(path)
        refuse_missing(str(path), there, columns or [])
        frame = _read(path, list(dict.fromkeys(columns or there)))
    except (OSError, pl.exceptions.PolarsError) as error:
        if not path.exists():
            raise SimError(f"There is no file {path}; check the path.") from None
        first_line = str(error).partition("\n")[0]
        raise SimError(f"{path} cannot be read as {_extension(path)}: {first_line}") from None
    if frame.is_empty():
        raise SimError(f"{path} has no rows; there is nothing to replay.")
    return frame


def refuse_missing(owner: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a table that lacks a wanted column; the error lists its columns."""
    for column in wanted:
        if column not in there:
            raise SimError(
                f"{owner} has no column {column!r}; its columns are {', '.join(there)}. "
                "Name yours by --user, --item, --time and --action or --rating."
            )


def _extension(path: Path) -> str:
    packed = path.suffix == ".gz"
    extension = Path(path.stem).suffix if packed else path.suffix
    if extension not in _SEPARATORS and (packed or extension != ".parquet"):
        raise SimError(f"{path} ends in {path.suffix!r}; a log ends in .csv, .tsv (both also with .gz) or .parquet.")
    return extension


def _columns(path: Path) -> list[str]:
    if (extension := _extension(path)) == ".parquet":
        return list(pl.read_parquet_schema(path))
    return pl.read_csv(path, separator=_SEPARATORS[extension], n_rows=0, infer_schema=False).columns


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    if (extension := _extension(path)) == ".parquet":
        return pl.read_parquet(path, columns=columns)
    return pl.read_csv(path, separator=_SEPARATORS[extension], columns=columns, infer_schema=False)


def ids(column: pl.Series, owner: str) -> pl.Series:
    """Return a column of ids of the table `owner` as texts; the float 42.0 is "42".

    Raises:
        SimError: An id is missing, empty or too long; the error names the row.
    """
    texts = texts_of(column)
    wrong = texts.is_null() | (texts.str.len_bytes() == 0) | (texts.str.len_bytes() > MAX_ID_BYTES)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        what = f"an id longer than {MAX_ID_BYTES} bytes" if texts[row] else "no id"
        raise SimError(
            f"Row {row + 1} of {owner} (not counting a header) has {what} in column {column.name!r}; mend or remove it."
        )
    return texts


def texts_of(column: pl.Series) -> pl.Series:
    """Return a column of scalars as texts; missing values stay missing."""
    if column.dtype.is_float() and (column == column.round()).all():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def numbers(column: pl.Series, owner: str) -> pl.Series:
    """Return a column of numbers of the table `owner` as floats.

    Raises:
        SimError: A value is no number; the error names the row and the value.
    """
    values = column.cast(pl.Float64, strict=False)
    wrong = ~values.is_finite().fill_null(False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise SimError(
            f"Row {row + 1} of {owner} (not counting a header) has {column[row]!r} in column {column.name!r}, "
            "which is no number; mend or remove the row."
        )
    return values
