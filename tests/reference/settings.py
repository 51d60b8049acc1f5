"""docs/reference/settings.md: every key of hstu.toml."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from model.config import ModelSettings, TrainSettings
from model.trainer.checkpointer import deciding_settings
from sim.config import Settings
from stream.config import StreamSettings
from stream.example import TimeBounds
from tests.reference.markdown import code, page, paragraph, table

_INTRO = """Keys of `hstu.toml`, stronger in the environment (`stream.partitions` is `HSTU_STREAM__PARTITIONS`), and
strongest as flags. `hstu settings` prints them with the values that hold here. Column "in a run": `kept` keys are fixed
by a trainer's checkpoints or by the topics, and another value is refused; `decides` keys decide which examples a store
makes, so that one built again under others makes [other examples](../recovery.md#other-settings); all others may change
at any restart."""
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", SecretStr: "secret"}


def settings_page() -> str:
    return page("Settings", _INTRO, _tables())


def _tables() -> Iterator[str]:
    fields = Settings.model_fields
    tables = {name: each.annotation for name, each in fields.items() if isinstance(each.default, BaseModel)}
    yield "## Above all tables"
    yield _rows("", {name: each for name, each in fields.items() if name not in tables})
    for name, model in tables.items():
        assert model is not None
        yield f"## [{name}]"
        yield from (paragraph(part) for part in (model.__doc__ or "").split("\n\n"))
        yield _rows(name, model.model_fields)


def _rows(name: str, fields: dict[str, FieldInfo]) -> str:
    rows = [("key", "value", "default", "in a run", "meaning")]
    for key, each in fields.items():
        said = (_default(each.default), _in_a_run(name, key), each.description or "")
        rows.append((code(each.alias or key), value_of(each), *said))
    if not any(row[3] for row in rows[1:]):
        rows = [(*row[:3], *row[4:]) for row in rows]
    return table(rows[0], rows[1:])


def value_of(field: FieldInfo) -> str:
    """Return what a key may be: its type, and its bounds."""
    return "; ".join([_type(field.annotation), *filter(None, map(_bound, field.metadata))])


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(code(json.dumps(value)) for value in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_type(each) for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Annotated:
        return _type(get_args(kind)[0])
    return _NAMES[kind]


def _bound(mark: Any) -> str:
    said = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "pattern": "like"}
    return ", ".join(
        f"{sign} {code(str(value)) if name == 'pattern' else format(value, ',g' if value < 1e9 else 'g')}"
        for name, sign in said.items()
        if (value := getattr(mark, name, None)) is not None
    )


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return code(json.dumps(list(value)))
    return code(
        json.dumps(str(value) if isinstance(value, Path) else value) if not isinstance(value, SecretStr) else '""'
    )


def _in_a_run(name: str, key: str) -> str:
    kept = deciding_settings(ModelSettings(), TrainSettings(), "cpu", 1, TimeBounds())
    if f"{name}.{key}" in kept:
        return "kept"
    return "decides" if name == "stream" and key in StreamSettings().deciding else ""
