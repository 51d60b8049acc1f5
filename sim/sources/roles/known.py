"""Logs that many have: which columns they have, by their header or their first row, and the flags that read them.

Each is a small TOML file in the folder `known`, named as --as names it; a file of one's own is given by its path:

    about      a sentence
    header     columns that tell it from others
    any        columns of which it has at least one as well; or, for a file without a header,
    first      a regular expression for each of the first cells of its first row
    separator  what stands between its cells, where that tells it from others
    either     flag → columns of which the first that exists is meant
    optional   flags of `either` that may have none
    [flags]    flags of how a log is read, as sim/log_flags.py has them
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from sim.errors import SimError
from sim.sources.roles.flag_values import check_flags
from sim.sources.tables.table import Table

_FOLDER: Final = Path(__file__).parent / "known"


class KnownLog(msgspec.Struct, frozen=True, kw_only=True):
    """One known log; the fields are the keys of its file, but for its name."""

    name: str
    about: str
    header: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    separator: str | None = None
    either: Mapping[str, list[str]] = {}
    optional: tuple[str, ...] = ()
    flags: Mapping[str, Any] = {}

    def fits(self, table: Table) -> bool:
        """Return whether a table is such a log."""
        file = table.files[0]
        if self.separator is not None and (file.kind != "delimited" or file.dialect.separator != self.separator):
            return False
        if self.first:
            cells = file.dialect.first if file.kind == "delimited" and not file.dialect.header else ()
            return len(cells) >= len(self.first) and all(map(re.fullmatch, self.first, cells))
        if self.any and not set(self.any) & set(table.columns):
            return False
        needed = [names for flag, names in self.either.items() if flag not in self.optional]
        return set(self.header) <= set(table.columns) and all(set(names) & set(table.columns) for names in needed)

    def flags_for(self, table: Table) -> dict[str, Any]:
        """Return the flags that read a table."""
        found = {
            flag: next((name for name in names if name in table.columns), None) for flag, names in self.either.items()
        }
        named = {flag: _there(flag, value, table.columns) for flag, value in self.flags.items()} | found
        return {flag: value for flag, value in named.items() if value is not None}


def _there(flag: str, value: Any, columns: Collection[str]) -> Any:
    """Return what a flag names of a table that lacks some of it: of several columns those that are there, if any."""
    if flag == "explode":
        return value if value in columns else None
    if flag not in ("user", "item"):
        return value
    return ",".join(name for name in value.split(",") if name in columns) or value


def known_log(name: str) -> KnownLog:
    """Return a known log by its name, or from a file.

    Raises:
        SimError: There is none, or the file is no such thing.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise SimError(f"--as {name} is no known log; known are {', '.join(names())}, or a .toml file of your own.")
    return _read(path)


@cache
def names() -> tuple[str, ...]:
    """Return the names of all known logs."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def recognised(table: Table) -> KnownLog | None:
    """Return the known log that a table is; of several that with the longest header."""
    fitting = [log for log in map(known_log, names()) if log.fits(table)]
    return max(fitting, key=lambda log: len(log.header) + len(log.first), default=None)


def _read(path: Path) -> KnownLog:
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimError(f"{path} is no TOML: {error}.") from None
    keys = set(KnownLog.__struct_fields__) - {"name"}
    if unknown := set(content) - keys:
        raise SimError(f"{path} has the key {min(unknown)!r}; known are {', '.join(sorted(keys))}.")
    try:
        log = msgspec.convert({"name": path.stem, "about": path.stem, **content}, KnownLog)
        for pattern in log.first:
            re.compile(pattern)
    except (msgspec.ValidationError, re.error) as error:
        raise SimError(f"{path} describes no log: {error}.") from None
    if not log.flags and not log.either:
        raise SimError(f"{path} has no [flags], which say how the log is read, as in user = 'customer'.")
    check_flags(log.flags, str(path))
    for flag, columns in log.either.items():
        for column in columns:
            check_flags({flag: column}, str(path))
    return log
