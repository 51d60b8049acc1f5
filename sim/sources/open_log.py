"""From the flags of a recorded log (sim/log_flags.py) to a source."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sim.errors import SimError
from sim.sources.item_records import Catalogue, read_items
from sim.sources.log_columns import LogSettings
from sim.sources.log_summary import LogSummary
from sim.sources.recorded_log import ReadLog, RecordedLog, fingerprint, read_events
from sim.sources.roles.flag_values import check_flags
from sim.sources.roles.guess import sample_of
from sim.sources.roles.resolve import OF_RATINGS, proposals, refusal, resolve, taken
from sim.sources.tables.bad_rows import BadRows, refuse_overwriting
from sim.sources.tables.places import files_of
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import Table, open_table

_1990_MS: Final = 631_152_000_000
_DAY_MS: Final = 86_400_000
_NAMED: Final = 5
_OF_ORDERS: Final = r"order|qty|quantity|amount|invoice|receipt|basket|transaction|(^|_)(line|units?|price|total)(_|$)"
"""Names of columns of what is bought, where two equal rows may be two units."""
_LITTLE: Final = 0.5  # share of the log's items below which the catalogue is probably another's


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue of a log, and its columns."""

    path: str
    item_id: str | None = None
    title: str | None = None
    features: str | None = None


def log_settings(flags: Mapping[str, Any]) -> LogSettings:
    """Return the settings of flags, each None where it was not given.

    Raises:
        SimError: They contradict one another.
    """
    names = {field.name for field in fields(LogSettings)}
    return LogSettings(**{name: value for name, value in flags.items() if name in names and value is not None})


def open_files(log: Sequence[str], flags: Mapping[str, Any]) -> Table:
    """Return the table of files; the columns that some flags speak of may still be missing.

    Raises:
        SimError: There is no such file, a flag has no such value, or the flags contradict one another.
    """
    others = {name: flags[name] for name in flags if name not in ("request", *OF_RATINGS)}
    check_flags({name: value for name, value in flags.items() if value is not None})
    return open_table(log, log_settings(others).table(), heads=flags.get("limit") is not None)


def open_log(log: Sequence[str], flags: Mapping[str, Any]) -> RecordedLog:
    """Read a log by the flags of `with_log_flags`.

    Raises:
        SimError: The flags contradict one another, or a file, a column or a cell cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    table = open_files(log, given)
    resolved = resolve(table, given)
    if resolved.doubts:
        raise refusal(table, resolved, [_mended(table, flags) for flags in proposals(resolved)])
    read = open_resolved(table, resolved.flags, [resolved.said] if resolved.said else [])
    refuse_unseen(table, given, read)
    return read


def completed(table: Table, flags: Mapping[str, Any]) -> tuple[dict[str, Any], RecordedLog]:
    """Return the flags with those that the log needs besides, and what they read.

    Raises:
        SimError: It cannot be read by them.
    """
    made = dict(flags)
    source = _tolerant(table, made)
    twice = "drop_duplicates" not in flags and source.summary.duplicates and not source.summary.whole_hours
    if twice and _mostly_twice(table):
        made["drop_duplicates"] = True
        source = _tolerant(table, made)
    summary = source.summary
    if (bad := max(summary.bad.total(), summary.bad_items)) and "skip_bad" not in flags:
        made["skip_bad"] = str(bad)
    if summary.ties_in_id_order and "shuffle_ties" not in flags:
        made["shuffle_ties"] = 1
    return made, source


def _tolerant(table: Table, flags: Mapping[str, Any]) -> RecordedLog:
    return open_resolved(table, {**flags, "skip_bad": flags.get("skip_bad") or "all"}, [])


def _mostly_twice(table: Table) -> bool:
    """Return whether more than a quarter of the first rows equal another in all columns, and are no units of orders."""
    sample = sample_of(table)
    if len(sample.columns) < len(table.readable) or any(re.search(_OF_ORDERS, name.lower()) for name in sample.columns):
        return False
    return (len(sample) - sample.hash_rows().n_unique()) * 4 > len(sample)


def _mended(table: Table, flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the flags with those that the log needs besides; as they are where it cannot be read by them."""
    try:
        return {**completed(table, {**flags, "bad_rows": None})[0], "bad_rows": flags.get("bad_rows")}
    except SimError:
        return flags


def refuse_unseen(table: Table, given: Mapping[str, Any], log: RecordedLog) -> None:
    """Refuse a log none of whose rows has a value in a column that a flag names and its first lines do not have.

    Raises:
        SimError: There is such a flag.
    """
    for role, name in taken(table, given).items():
        if name in log.summary.empty and name not in (*table.columns, *table.later_columns):
            flag = role.partition(" ")[0].replace("_", "-")
            raise SimError(
                f"No row that was read of {table.name} has a value in column {name!r} (--{flag}); its columns are "
                f"{', '.join((*table.columns, *table.later_columns))}."
            )


def open_resolved(table: Table, flags: Mapping[str, Any], said: Sequence[str]) -> RecordedLog:
    """Read an open table by flags that are complete.

    Args:
        table: The log.
        flags: How it is read.
        said: Sentences about where the flags come from.

    Raises:
        SimError: A file, a column or a cell cannot be read.
    """
    settings = log_settings(flags)
    if settings.table() != table.settings:
        table = table.reopened(settings.table())
    of_items = {name: flags.get(name) for name in ("item_id", "title", "features")}
    items = Items(flags["items"], **of_items) if flags.get("items") else None
    return _read(table, settings, items, said)


def read_log(log: Sequence[str], settings: LogSettings, items: Items | None = None) -> RecordedLog:
    """Read a log from its files, and its catalogue.

    Args:
        log: Files, folders or globs.
        settings: How they are read.
        items: The catalogue, if there is one.

    Raises:
        SimError: A file, a column or a cell cannot be read.
    """
    return _read(open_table(log, settings.table(), heads=settings.limit is not None), settings, items, [])


def _read(table: Table, settings: LogSettings, items: Items | None, first: Sequence[str]) -> RecordedLog:
    if settings.bad_rows is not None:
        _refuse_overwriting(settings.bad_rows, table, items)
    read = read_events(table, settings)
    records, said = _records(items, settings, read.parts.first_ms, read.summary)
    of_items = fingerprint(*(f"{key}{value!r}" for key, value in records))
    tag = fingerprint(table.digest, of_items, settings.tag())
    remarks = [*first, *read.remarks, *_of_span(read), *_of_later(table, settings), *said]
    return RecordedLog(_short(table.name), tag, read.parts, records, read.read_as, read.summary, remarks)


def _refuse_overwriting(bad_rows: str, table: Table, items: Items | None) -> None:
    inputs = [*(each.file for each in table.files), *(files_of([items.path]) if items else ())]
    refuse_overwriting(bad_rows, [Path("/dev/stdin") if file.is_stdin else file.path for file in inputs])


def _of_span(read: ReadLog) -> list[str]:
    """Return sentences about times that no log has unless they were misread."""
    first_ms, last_ms = read.parts.first_ms, read.parts.last_ms
    mend = "if times were misread, say how by --time-unit or --time-format."
    said = []
    if first_ms < _1990_MS and not read.early:
        said.append(f"Its first time, {_day(first_ms)}, lies before 1990: {mend}")
    if last_ms > time.time() * 1000 + _DAY_MS:
        said.append(f"Its last time, {_day(last_ms)}, lies in the future: {mend}")
    return said


def _of_later(table: Table, settings: LogSettings) -> list[str]:
    """Return a sentence about columns that the first file lacks and that are not read; fields of JSON may differ."""
    read = settings.columns(table.columns)
    later = [name for name in table.later_columns if name not in read]
    if not later or table.files[0].kind == "json":
        return []
    named = ", ".join(map(repr, later[:_NAMED])) + (" …" if len(later) > _NAMED else "")
    return [
        f"Columns that {table.files[0].name} lacks are not read: {named}, first in {table.later_columns[later[0]]}."
    ]


def _day(ts_ms: int) -> str:
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%d}"


def _short(name: str) -> str:
    first, _, more = name.partition(" and ")
    return Path(first).name + (f" and {more}" if more else "")


def _records(
    items: Items | None, settings: LogSettings, first_ms: int, summary: LogSummary
) -> tuple[Catalogue, list[str]]:
    if items is None:
        return [], []
    how = TableSettings(encoding=settings.encoding)
    bad = BadRows(settings.skip_bad, Path(settings.bad_rows) if settings.bad_rows else None, more=True)
    read = read_items(
        items.path,
        settings.item,
        first_ms,
        item_id=items.item_id,
        title=items.title,
        features=items.features,
        settings=how,
        bad=bad,
    )
    records = read.records
    covered = summary.covered([key for key, _ in records])
    said = f"The catalogue has {covered:,} of the log's {summary.items:,} items."
    if bad.counts:
        summary.bad_items = bad.counts.total()
        said += f" {bad.counts.total():,} of its rows are bad and left out: {bad.kinds}."
    if covered < _LITTLE * summary.items:
        said += f" Its ids are such as {records[0][0]!r}; is that the column of the log's ids (--item-id)?"
    return records, [said, read.remark]
