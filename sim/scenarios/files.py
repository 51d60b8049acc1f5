"""Scenario files: TOML in, checked settings out; the presets that come with the package.

Whatever is wrong with a file is one sentence with the file, the table and the key.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from sim.errors import SimError
from sim.world.settings import DirichletScenario, ScenarioSettings, WorldSettings

PRESETS: Final = Path(__file__).parent / "presets"
KINDS: Final[Mapping[str, type[BaseModel]]] = {"world": WorldSettings, "dirichlet": DirichletScenario}


def preset_names() -> list[str]:
    """Give the names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def find(name_or_path: str | Path) -> Path:
    """Return the file of a preset's name, or the file itself; a preset wins over a file of the same name.

    Raises:
        SimError: There is neither.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if name in preset_names():
        return PRESETS / f"{name}.toml"
    if path.suffix == ".toml" or path.is_file():
        return path
    raise SimError(
        f"There is no scenario {name!r}; known are {', '.join(preset_names())}, "
        "and a file of your own whose name ends in .toml."
    )


def read_settings(path: Path) -> ScenarioSettings:
    """Read a scenario file.

    Raises:
        SimError: it cannot be read, or says what cannot be.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = f"there is no file {path}" if isinstance(error, FileNotFoundError) else error
        raise SimError(
            f"The scenario {path} cannot be read: {why}; `hstu scenarios list` shows those that come along."
        ) from None
    return checked(content, str(path))


def checked(content: Mapping[str, Any], where: str) -> ScenarioSettings:
    """Give the settings that a file's content says; `where` is what errors call it.

    Raises:
        SimError: a table or key is unknown, or a value is refused.
    """
    kind = content.get("kind", "world")
    if kind not in KINDS:
        raise SimError(f"{where} has kind = {kind!r}, which is no kind of scenario; known are {', '.join(KINDS)}.")
    try:
        settings = KINDS[kind].model_validate(content)
    except ValidationError as error:
        raise SimError(_sentence(error, KINDS[kind], where)) from None
    assert isinstance(settings, WorldSettings | DirichletScenario)
    return settings


def _sentence(error: ValidationError, model: type[BaseModel], where: str) -> str:
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # a typo also makes a key lack
    place = first["loc"]
    if not place:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}."
    *tables, key = place
    table = f"table [{tables[0]}]" if tables else "the top level"
    if len(tables) > 1:
        table += f" number {int(tables[1]) + 1}"
    if first["type"] == "extra_forbidden":
        thing = "table" if isinstance(first["input"], dict) else "key"
        return f"{where} has the {thing} {key!r} in {table}, which knows {', '.join(_known(model, tables))}."
    if first["type"] == "missing":
        return f"{where} lacks the key {key!r} in {table}."
    if first["type"] == "model_type":
        return f"{where} has {key} = {first['input']!r}, but {key} is a table: write [{key}] and its keys under it."
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where} has {key} = {first['input']!r} in {table}, which is refused: {message}."


def _known(model: type[BaseModel], tables: list[int | str]) -> list[str]:
    """Give the keys of a table; at the top level all tables and keys."""
    if not tables:
        return list(model.model_fields)
    return list(table_model(model, str(tables[0])).model_fields)


def table_model(model: type[BaseModel], table: str) -> type[BaseModel]:
    """Give the model of a table of a scenario."""
    return next(found for found in _models(model.model_fields[table].annotation))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Give the pydantic models within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]
