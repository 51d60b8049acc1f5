"""`hstu inspect LOG`: its columns and what they are, what a replay would make of it, and the line that replays it."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl
from rich.console import Console
from rich.table import Column, Table as RichTable

from sim.config import Settings
from sim.errors import SimError
from sim.inspect.lacking import missing_roles, what_to_name
from sim.replay.open_source import remarks
from sim.sources.open_log import completed, open_files, refuse_unseen
from sim.sources.recorded_log import RecordedLog
from sim.sources.roles.guess import Guess, guess, sample_of
from sim.sources.roles.known import known_log, names
from sim.sources.roles.resolve import ROLES, alternatives, resolve, taken, times_of, written
from sim.sources.tables.cells import NO_VALUES, holds_lists, ids_of, kind_of, numbers_of
from sim.sources.tables.table import Table

_EXAMPLES: Final = 3
_LONGEST: Final = 40


def run_inspect(load: Callable[[dict[str, Any]], Settings], log: Sequence[str], flags: Mapping[str, Any]) -> bool:
    """Print what a log is; return whether it can be replayed so.

    Args:
        load: Returns the settings.
        log: Its files; without any, the known logs are listed.
        flags: Those of how a log is read; they decide over guesses.

    Raises:
        SimError: It cannot be read at all.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not log:
        _print_known(console)
        return True
    given = {name: value for name, value in flags.items() if value is not None}
    table = open_files(log, given)
    sample = sample_of(table)
    guessed = guess(sample, taken(table, given), times_of(given))
    console.print(_head(table))
    resolved = resolve(table, given)
    console.print(_columns(sample, guessed, resolved.flags, len(table.readable) - len(sample.columns)))
    if resolved.said:
        console.print(resolved.said)
    for doubt in resolved.doubts:
        console.print(doubt.said)
    wanted = resolved.flags
    if not any(role in wanted for role in ROLES):
        wanted = guessed.flags | given
    likely = {role: guessed.flags[role] for role in missing_roles(table, wanted) if role in guessed.flags}
    wanted = wanted | likely
    if missing := missing_roles(table, wanted):
        console.print(what_to_name(table, sample, missing, guessed, times_of(given)))
        return False
    sure = any(role in resolved.flags for role in ROLES) and not likely and not resolved.doubts
    return _print_replay(console, log, table, wanted, given, load({}), sure=sure)


def _print_replay(
    console: Console,
    log: Sequence[str],
    table: Table,
    wanted: Mapping[str, Any],
    given: Mapping[str, Any],
    settings: Settings,
    *,
    sure: bool,
) -> bool:
    """Print what a replay by these flags makes of the log, and its line; return whether there is one.

    Args:
        console: Where it is printed.
        log: Its files.
        table: The log.
        wanted: The flags.
        given: Those of them that were given.
        settings: Those of the program.
        sure: Whether the flags need no look.
    """
    try:
        flags, source = completed(table, wanted)
        refuse_unseen(table, given, source)
    except SimError as error:
        console.print(f"It cannot be replayed so: {error}")
        return False
    _print_content(console, source)
    for sentence in remarks(source, settings.stream, settings.train.negative_actions, settings.model.rank_actions):
        console.print(sentence)
    bad = max(source.summary.bad.total(), source.summary.bad_items)
    if not sure or bad * 2 > source.summary.read:
        console.print("The roles are not all sure: look at them, and correct the line below.")
    console.print(f"\nhstu replay {shlex.join(log)} {written(flags)}")
    return True


def _head(table: Table) -> str:
    file, inside = table.files[0], len(table.columns) - len(table.readable)
    return f"{_file(table)}, {len(file.columns) - inside} columns" + (f" and {inside} in lists" if inside else "")


def _file(table: Table) -> str:
    file = table.files[0]
    many = f", the first of {len(table.files):,} files" if len(table.files) > 1 else ""
    if file.kind != "delimited":
        kind = "Parquet" if file.kind == "parquet" else "a JSON array" if file.is_array else "JSON lines"
        return f"{file.name}{many}: {kind}"
    dialect = file.dialect
    header = "a header" if dialect.header else "no header, so columns are numbered"
    quoting = f"quoted by {dialect.quote}" if dialect.quote else "no quoting"
    return f"{file.name}{many}: separator {dialect.separator!r}, {quoting}, {header}"


def _columns(sample: pl.DataFrame, guessed: Guess, flags: Mapping[str, Any], more: int) -> RichTable:
    headers = ("column", "holds", "examples", "distinct", "empty", "role")
    shown = RichTable(*(Column(header, overflow="fold") for header in headers), title_justify="left")
    shown.title = f"Columns, by the first {len(sample):,} rows"
    shown.title += f"; {more:,} more fields are in few of them, and not looked at" if more else ""
    named = {name: role for role in ROLES if role in flags for name in alternatives(str(flags[role]), sample.columns)}
    acts = {"action", "rating"} if {"action", "rating"} & set(flags) else set()
    found = {role.column: name for name, role in guessed.roles.items() if name not in {*flags, *acts}}
    for name in sample.columns:
        column = sample[name]
        role = _role(name, named.get(name) or found.get(name), guessed)
        if holds_lists(column):
            shown.add_row(name, kind_of(column.dtype), "", "", "", role or "--explode or --shown")
            continue
        texts = ids_of(column)
        empty = texts.is_null() | texts.str.to_lowercase().is_in(NO_VALUES)
        distinct = texts.filter(~empty).unique(maintain_order=True)
        examples = ", ".join(str(text)[:_LONGEST] for text in distinct.head(_EXAMPLES).to_list())
        share = f"{int(empty.sum()) / max(1, len(empty)):.0%}"
        shown.add_row(name, _holds(column), examples, f"{len(distinct):,}", share, role)
    return shown


def _role(name: str, role: str | None, guessed: Guess) -> str:
    """Return the role of a column, and how sure it is."""
    if role is None:
        return ""
    found = guessed.roles.get(role)
    return f"{role.replace('_', '-')}, {found.certainty if found is not None and found.column == name else 'named'}"


def _holds(column: pl.Series) -> str:
    if column.dtype != pl.String:
        return kind_of(column.dtype)
    given = column.drop_nulls().str.strip_chars()
    given = given.filter(~given.str.to_lowercase().is_in(NO_VALUES))
    if len(given) and given.cast(pl.Int64, strict=False).null_count() == 0:
        return "integers"
    _, faults = numbers_of(given)
    return "numbers" if len(given) and not any(fault.wrong.any() for fault in faults) else "texts"


def _print_content(console: Console, source: RecordedLog) -> None:
    read, users = source.summary.read, source.users
    console.print(
        f"{read:,} rows, {len(source):,} events of {users:,} users on {source.items:,} items, from "
        f"{_second(source.first_ms)} to {_second(source.last_ms)} (UTC); {len(source) / users:,.1f} events a user; "
        f"times are {source.read_as}.",
    )


def _second(ts_ms: int) -> str:
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _print_known(console: Console) -> None:
    shown = RichTable("--as", "log", title="Known logs", title_justify="left")
    for name in names():
        shown.add_row(name, known_log(name).about)
    console.print(shown)
