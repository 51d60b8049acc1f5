"""All settings in one tree: hstu.toml, then HSTU_* variables, then flags, in rising precedence.

`HSTU_BOOTSTRAP` is the key `bootstrap`, `HSTU_STREAM__PARTITIONS` the key `partitions` of table [stream].
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from model.config import ModelSettings, ServeSettings, TrainSettings
from sim.errors import SimError
from stream.config import StreamSettings

PREFIX = "HSTU_"


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        case_sensitive=False,
    )

    bootstrap: str = ""
    """Kafka, as HOST:PORT[,HOST:PORT…]."""
    data_dir: Path = Path("hstu-data")
    """Where stores, checkpoints and snapshots live."""
    stream: StreamSettings = StreamSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    serve: ServeSettings = ServeSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content comes as arguments."""
        return env_settings, init_settings


def load(file: Path | None = None, flags: dict[str, Any] | None = None) -> Settings:
    """Read the file (default: hstu.toml if there is one), the environment, then flags such as {"train.name": "a"}.

    Flags whose value is None were not given.

    Raises:
        SimError: the file cannot be read, a key is unknown (the known ones are listed), or a value is out of range.
    """
    path = file or Path("hstu.toml")
    where = str(path)
    content: dict[str, Any] = {}
    if file is not None or path.exists():
        try:
            content = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SimError(
                f"The configuration {path} cannot be read: {error}; mend it or name another by --config."
            ) from error
    try:
        _refuse_unknown_variables()
        settings = Settings(**content)
        given = {key: value for key, value in (flags or {}).items() if value is not None}
        return _with_flags(settings, given, where) if given else settings
    except ValidationError as error:
        raise SimError(_sentence(error, where)) from None


def _with_flags(settings: Settings, flags: dict[str, Any], where: str) -> Settings:
    tree = settings.model_dump()
    for dotted, value in flags.items():
        *tables, key = dotted.split(".")
        branch = tree
        for table in tables:
            branch = branch[table]
        branch[key] = value
    return settings.model_copy(update={name: _validated(name, value, where) for name, value in tree.items()})


def _validated(name: str, value: Any, where: str) -> Any:
    kind: Any = Settings.model_fields[name].annotation
    if not _is_table(kind):
        return value
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise SimError(_sentence(error, where, name)) from None


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def known_keys(table: str = "") -> list[str]:
    """Give the keys of a table, or of the top level."""
    owner: Any = Settings.model_fields[table].annotation if table else Settings
    return sorted(owner.model_fields)


def _refuse_unknown_variables() -> None:
    known = {PREFIX + key.upper() for key in known_keys()}
    for table in known_keys():
        if _is_table(Settings.model_fields[table].annotation):
            known |= {f"{PREFIX}{table}__{key}".upper() for key in known_keys(table)}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise SimError(
                f"The environment sets {variable}, which is no setting; unset it. Known are {', '.join(sorted(known))}."
            )


def _sentence(error: ValidationError, where: str, table: str = "") -> str:
    first = error.errors()[0]
    place = ".".join(map(str, filter(None, (table, *first["loc"])))) or "the settings"
    if first["type"] == "extra_forbidden":
        table = str(first["loc"][0]) if len(first["loc"]) > 1 else ""
        scope = f"table [{table}]" if table else "the top level"
        return f"{where} sets {place}, which is no setting; {scope} knows {', '.join(known_keys(table))}."
    return f"The setting {place} = {first['input']!r} (from {where}, HSTU_* or a flag) is refused: {first['msg']}."
