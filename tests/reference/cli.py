"""docs/reference/cli.md: every verb of `hstu` with its arguments and flags."""

import inspect
from collections.abc import Iterator
from datetime import datetime
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer.main

from sim.main import app
from tests.reference.markdown import code, page, paragraph, table

_NAMES = {str: "text", int: "integer", float: "number", Path: "path", datetime: "time"}


def cli_page() -> str:
    root = typer.main.get_command(app)
    intro = (
        "Every verb of `hstu` with its flags; `--help` of a verb says the same. What a flag leaves out is taken from "
    )
    intro += "the [settings](settings.md)."
    return page("Command line", intro, [part for name, verb in _verbs("hstu", root) for part in _verb(name, verb)])


def _verbs(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, verb in getattr(command, "commands", {}).items():
        if not verb.hidden:
            yield from _verbs(f"{name} {below}", verb)


def _verb(name: str, verb: Any) -> Iterator[str]:
    yield f"## {name}"
    for part in (verb.help or "").replace("\b", "").split("\n\n"):
        yield paragraph(part)
    if verbs := [code(below) for below, each in getattr(verb, "commands", {}).items() if not each.hidden]:
        yield paragraph(f"Verbs: {', '.join(verbs)}.")
    said = inspect.signature(verb.callback).parameters if verb.callback else {}
    rows = [
        _row(each, said[each.name]) for each in verb.params if each.name in said and not getattr(each, "hidden", False)
    ]
    if rows:
        yield table(("argument or flag", "value", "default", "meaning"), rows)


def _row(param: Any, said: inspect.Parameter) -> tuple[str, ...]:
    flag = param.param_type_name == "option"
    name = (
        ", ".join(map(code, [*param.opts, *param.secondary_opts]))
        if flag
        else code(param.metavar or param.name.upper())
    )
    kind, info, *_ = get_args(said.annotation)
    return name, ", ".join([value_of(kind), *_bounds(info)]), _default(param, said), info.help or ""


def value_of(kind: Any) -> str:
    """Return what a value may be; empty for a switch."""
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        return " or ".join(map(code, get_args(kind)))
    if isinstance(kind, EnumType):
        return " or ".join(code(str(each.value)) for each in kind)
    if get_origin(kind) in (list, tuple):
        return f"{value_of(get_args(kind)[0])}, may be given again"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(value_of(each) for each in get_args(kind) if each is not NoneType)
    return _NAMES[kind]


def _bounds(info: Any) -> Iterator[str]:
    for sign, bound in (("≥", info.min), ("≤", info.max)):
        if bound is not None:
            yield f"{sign} {bound:g}"


def _default(param: Any, said: inspect.Parameter) -> str:
    default = said.default
    if param.required:
        return "required"
    if default is None or default is False or default is inspect.Parameter.empty or default == []:
        return ""
    return "on" if default is True else code(str(getattr(default, "value", default)))
