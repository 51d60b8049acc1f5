"""All settings as a hstu.toml: the meaning of each, its value, and its default where that differs."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from sim.config import Settings

_WIDTH: Final = 110


def settings_page(settings: Settings) -> str:
    """Return the text of a hstu.toml that has these settings."""
    tables = {name: value for name, value in settings if isinstance(value, BaseModel)}
    parts = [_keys(settings, [name for name in Settings.model_fields if name not in tables])]
    for name, table in tables.items():
        parts.append([f"[{name}]", *_keys(table, list(type(table).model_fields))])
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _keys(table: BaseModel, names: Sequence[str]) -> list[str]:
    return [line for name in names for line in _key(table, name)]


def _key(table: BaseModel, name: str) -> Iterator[str]:
    field, value = type(table).model_fields[name], getattr(table, name)
    choices = f" One of {', '.join(get_args(field.annotation))}." if get_origin(field.annotation) is Literal else ""
    meaning = " ".join(f"{field.description or ''}{choices}".split())
    yield from textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    yield f"{name} = {_toml(value)}" + ("" if value == field.default else f"  # default: {_toml(field.default)}")


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path | SecretStr) else value)
