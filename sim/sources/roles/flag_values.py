"""Values of the flags of a log, as a command line or a TOML file has them: the one place where they are checked."""

from collections.abc import Mapping
from typing import Any, Final

from sim.errors import SimError
from sim.log_flags import FLAGS, flag_of

_OF_COLUMNS: Final = ("user", "item", "explode", "features")
"""Flags that take several columns, with commas between."""
_OF_FILE: Final = "read_as"
"""The flag that names a TOML file, in which it has no place."""
_OF_CATALOGUE: Final = ("item_id", "title", "features")
_MAY_BE_BLANK: Final = ("separator", "quote")
_TYPES: Final = {str: "text", bool: "true or false", int: "whole number", float: "number"}


def check_flags(flags: Mapping[str, Any], file: str = "") -> None:
    """Refuse values that are empty or of another type, and flags that name a column twice.

    Args:
        flags: Name in FLAGS → value, without None.
        file: The TOML file that has them; empty: a command line.

    Raises:
        SimError: A value is so.
    """
    for name, value in flags.items():
        if name not in FLAGS or (file and name == _OF_FILE):
            raise SimError(
                f"[flags] of {file} has the key {name!r}; known are {', '.join(sorted({*FLAGS} - {_OF_FILE}))}."
            )
        said = f"{name} in [flags] of {file}" if file else flag_of(name)
        if not _is(FLAGS[name].kind, value):
            kind = FLAGS[name].kind
            mend = f'; write {name} = "{value}"' if kind is str and not isinstance(value, list | dict) else ""
            raise SimError(f"{said} is {value!r}, which is no {_TYPES[kind]}{mend}.")
        if isinstance(value, str) and not value.strip() and name not in _MAY_BE_BLANK:
            raise SimError(f"{said} is empty; give it a value, or remove it.")
        if name in _OF_COLUMNS:
            _check_columns(said, value)


def with_known(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of a known log that count beside given ones; those of a catalogue only where there is one.

    Raises:
        SimError: A flag that was given speaks of a catalogue, and there is none.
    """
    if "items" in {**known, **given}:
        return dict(known)
    if name := next((name for name in _OF_CATALOGUE if name in given), None):
        raise SimError(f"{flag_of(name)} speaks of columns of the catalogue; name its file by --items.")
    return {name: value for name, value in known.items() if name not in _OF_CATALOGUE}


def _is(kind: Any, value: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _check_columns(said: str, value: str) -> None:
    names = [name.strip() for name in value.split(",")]
    if "" in names:
        raise SimError(f"{said} {value!r} has a comma without a column on both sides; remove it.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SimError(f"{said} {value!r} names column {twice!r} twice; name it once.")
