"""What a log lacks to be replayed by some flags, and which flags may supply it."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from sim.sources.roles.guess import Guess
from sim.sources.roles.names import named_like
from sim.sources.roles.resolve import DEFAULTS, written
from sim.sources.tables.cells import holds_lists
from sim.sources.tables.table import Table

_SHOWN: Final = 60
_ACCESS: Final = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d"
_LIKE_TIMES: Final = r"\d[-/. ]\w{1,9}[-/., ]+\d|\d:\d\d"


def missing_roles(table: Table, flags: Mapping[str, Any]) -> list[str]:
    """Return which of user, item and time have no column; beside a column of slates there may be no item."""
    needed = [role for role in DEFAULTS if role != "item" or "shown" not in flags]
    return [role for role in needed if role not in flags and DEFAULTS[role] not in table.columns]


def what_to_name(
    table: Table, sample: pl.DataFrame, missing: list[str], guessed: Guess, time_format: str | None
) -> str:
    """Return what to do about roles without a column.

    Args:
        table: The log.
        sample: Its first rows.
        missing: The roles, at least one.
        guessed: What its columns are.
        time_format: Format of its times, where it is given.
    """
    inside = _inside_lists(table, missing)
    if "time" in missing and "time" not in guessed.roles and not inside:
        return _without_times(table, sample, time_format)
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
        said += _of_slates([name for name in sample.columns if holds_lists(sample[name])])
    return said


def _without_times(table: Table, sample: pl.DataFrame, time_format: str | None) -> str:
    """Return what to do about a table none of whose columns holds times."""
    file = table.files[0]
    if file.kind == "delimited" and len(sample.columns) == 1:
        return (
            f"It has one column, as nothing that usually separates cells fits its first lines, such as "
            f"{str(sample.row(0)[0])[:_SHOWN]!r}: say what stands between cells by --separator (space, tab, ';' …), or "
            "around them by --quote, and inspect again."
        )
    if sample[sample.columns[0]].dtype == pl.String and sample[sample.columns[0]].str.contains(_ACCESS).any():
        return (
            "Its lines look like those of a web server's access log, which are no table: let the server write JSON "
            "(log_format … escape=json), or make columns of the user, the path and the time first."
        )
    said = f"No column holds times{f' as {time_format}' if time_format else ''}; "
    scalar = [name for name in sample.columns if not holds_lists(sample[name]) and sample[name].dtype == pl.String]
    likely = [name for name in scalar if _looks_like_times(sample[name])]
    if not likely:
        return said + "without them rows have no order, and there is nothing to replay."
    best = next((name for name in likely if named_like("time", name)), likely[0])
    cell = str(sample[best].drop_nulls()[0])[:_SHOWN]
    return (
        f"{said}perhaps {best!r} does, with cells such as {cell!r}: say their format as strptime has it, by --time "
        f"{shlex.quote(best)} --time-format '%d/%m/%y %H:%M'."
    )


def _looks_like_times(column: pl.Series) -> bool:
    given = column.drop_nulls()
    return len(given) > 0 and int(given.str.contains(_LIKE_TIMES).sum()) * 2 > len(given)


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


def _of_slates(lists: list[str]) -> str:
    if not lists:
        return " If each row is a whole slate, name its column by --shown."
    return (
        f" If a row is a whole slate, name the list of what was shown ({', '.join(lists)}) by --shown, and that of "
        "what was clicked by --clicked; otherwise --explode makes each element of a list a row."
    )
