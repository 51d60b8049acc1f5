"""What a log lacks to be replayed by some flags, and which flags may supply it."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from sim.sources.roles.guess import Guess
from sim.sources.roles.names import named_like
from sim.sources.roles.resolve import DEFAULTS, are_slates, written
from sim.sources.tables.cells import holds_lists
from sim.sources.tables.delimited import of_objects
from sim.sources.tables.table import Table
from sim.sources.tables.timestamps import TimeSettings
from sim.time_texts import hint

_SHOWN: Final = 60
_ACCESS: Final = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d"
_LIKE_TIMES: Final = (
    r"(?i)\b\d{1,4}[-/. ](\d{1,2}|[a-z]{3,9})[-/., ]+\d{1,4}\b|[a-z]{3,9}\.? \d{1,2}, \d{4}|\d:\d\d|^/Date\("
)
_NO_TIMES: Final = r"^\d{1,3}(\.\d{1,3}){3}$|^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-"  # addresses, UUIDs


def missing_roles(table: Table, flags: Mapping[str, Any]) -> list[str]:
    """Return which of user, item and time have no column; beside a column of slates there may be no item."""
    needed = [role for role in DEFAULTS if role != "item" or "shown" not in flags]
    return [role for role in needed if role not in flags and DEFAULTS[role] not in table.columns]


def what_to_name(table: Table, sample: pl.DataFrame, missing: list[str], guessed: Guess, times: TimeSettings) -> str:
    """Return what to do about roles without a column.

    Args:
        table: The log.
        sample: Its first rows.
        missing: The roles, at least one.
        guessed: What its columns are.
        times: What is known of its times.
    """
    inside = _inside_lists(table, missing)
    if "time" in missing and "time" not in guessed.roles and not inside:
        return _without_times(table, sample, times)
    roles = " or the ".join(missing)
    deep = {of: outer for of in inside if (outer := _outer_list(table, of)) is not None}
    inside = {of: columns for of, columns in inside.items() if of not in deep}
    if deep and not inside:
        of, outer = next(iter(deep.items()))
        return (
            f"No column outside of lists is plainly the {roles}. {of} is a list in each element of the list {outer}, "
            "and --explode takes lists of one level: write a row for each of its elements first (jq, polars' explode)."
        )
    if inside:
        lists = "; ".join(f"{name} holds {', '.join(columns)}" for name, columns in inside.items())
        flag = f"--explode {shlex.quote(next(iter(inside)))}"
        return (
            f"No column outside of lists is plainly the {roles}; name it by --{missing[0]} COLUMN, or look into the "
            f"lists: {lists}. Inspect again with {flag}, which makes each element a row."
        )
    said = f"No column is plainly the {roles}; name it by --{missing[0]} COLUMN, and inspect again."
    if maybe := {role: guessed.roles[role].column for role in missing if role in guessed.roles}:
        said += f" Perhaps {written(maybe)}."
    if "item" in missing:
        said += _of_slates(sample)
    return said + _of_objects(table, sample)


def _without_times(table: Table, sample: pl.DataFrame, times: TimeSettings) -> str:
    """Return what to do about a table none of whose columns holds times."""
    file = table.files[0]
    if file.kind == "delimited" and len(sample.columns) == 1:
        return (
            f"It has one column, as nothing that usually separates cells fits its first lines, such as "
            f"{str(sample.row(0)[0])[:_SHOWN]!r}: say what stands between cells by --separator (space, tab, ';' …), or "
            "around them by --quote, and inspect again."
        )
    if (access := _of_access_log(sample)) is not None:
        return access
    said = f"No column holds times{f' as {times.format}' if times.format else ''}; "
    texts = [name for name in sample.columns if sample[name].dtype == pl.String]
    likely = [name for name in texts if _looks_like_times(sample[name])]
    if not likely:
        return said + "without them rows have no order, and there is nothing to replay." + _of_objects(table, sample)
    best = next((name for name in likely if named_like("time", name)), likely[0])
    cell = str(sample[best].drop_nulls()[0])[:_SHOWN]
    said += f"perhaps {best!r} does, with cells such as {cell!r}"
    if more := hint(sample[best].drop_nulls(), times.zone):
        return f"{said}{more}."
    return f"{said}: say their format as strptime has it, by --time {shlex.quote(best)} --time-format '%d/%m/%y %H:%M'."


def _of_access_log(sample: pl.DataFrame) -> str | None:
    """Return what to do about the log of a web server, whose times are [14/Nov/2023:22:13:38 +0200]."""
    columns = [name for name in sample.columns if sample[name].dtype == pl.String]
    found = next((name for name in columns if sample[name].str.contains(_ACCESS).any()), None)
    if found is None:
        return None
    said = (
        "Its lines look like those of a web server's access log, whose paths are not cut out: let the server write "
        "JSON (log_format … escape=json), or make columns of the user, the path and the time first."
    )
    place = columns.index(found) + 1
    if not sample[found].str.contains(rf"^{_ACCESS}$").all() or place == len(columns):
        return said
    flags = {"time": found, "time_offset": columns[place], "time_format": "[%d/%b/%Y:%H:%M:%S %z]"}
    return f"{said} Its times as they are: {written(flags)}."


def _of_objects(table: Table, sample: pl.DataFrame) -> str:
    """Return what to do about a column of JSON objects in cells, if there is one."""
    file = table.files[0]
    if file.kind != "delimited":
        return ""
    found = [name for name in sample.columns if sample[name].drop_nulls().str.contains(r'^\s*\{\s*"').any()]
    return f" Of column {found[0]!r}: {of_objects(found[0], file.dialect)}" if found else ""


def _looks_like_times(column: pl.Series) -> bool:
    given = column.drop_nulls()
    given = given.filter(~given.str.contains(_NO_TIMES))
    return len(given) > 0 and int(given.str.contains(_LIKE_TIMES).sum()) * 2 > len(column.drop_nulls())


def _outer_list(table: Table, name: str) -> str | None:
    """Return the list in whose elements a list lies, if there is one."""
    lists = {of for each in table.columns if (of := table.files[0].closed_list(each)) is not None}
    return next((each for each in sorted(lists | set(table.settings.exploded)) if name.startswith(f"{each}.")), None)


def _inside_lists(table: Table, missing: list[str]) -> dict[str, list[str]]:
    """Return the columns of each list that may hold a missing role: by a name, or, but for users, any list."""
    inside = dict[str, list[str]]()
    for name in table.columns:
        if (of := table.files[0].closed_list(name)) is not None:
            inside.setdefault(of, []).append(name)
    fitting = {
        of: names for of, names in inside.items() if any(named_like(role, name) for role in missing for name in names)
    }
    return fitting or ({} if missing == ["user"] else inside)


def _of_slates(sample: pl.DataFrame) -> str:
    lists = [name for name in sample.columns if holds_lists(sample[name])]
    slates = lists + [name for name in sample.columns if are_slates(sample[name])]
    if not slates:
        return " If each row is a whole slate, name its column by --shown."
    said = (
        f" If a row is a whole slate, name what was shown ({', '.join(slates)}) by --shown, and what was clicked, or a "
        "label for each, by --clicked"
    )
    return said + ("; otherwise --explode makes each element of a list a row." if lists else ".")
