"""All settings in one tree: hstu.toml, then HSTU_* variables, then flags, in rising precedence.

`HSTU_BOOTSTRAP` is the key `bootstrap`, `HSTU_STREAM__PARTITIONS` the key `partitions` of table [stream].
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_origin

from pydantic import BaseModel, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from model.config import ModelSettings, ServeSettings, TrainSettings
from sim.errors import SimError
from stream.config import KafkaSettings, StreamSettings, leaves

PREFIX: Final = "HSTU_"
_OF_KUBERNETES: Final = re.compile(r"_(?=(SERVICE_HOST|SERVICE_PORT|PORT)(_|$))")  # where a Service's name may end
_OF_A_SERVICE: Final = re.compile(r"(tcp|udp|sctp)://[\d.:\[]")
_file: ContextVar[Path | None] = ContextVar("_file", default=None)  # the file that `load` reads


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
    kafka: KafkaSettings = KafkaSettings()
    stream: StreamSettings = StreamSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    serve: ServeSettings = ServeSettings()

    @model_validator(mode="after")
    def _items_outlive_their_window(self) -> "Settings":
        ttl_d, window_s = self.train.item_ttl_d, self.stream.action_window_s
        if 0 < ttl_d * 86_400 < window_s:
            least_d = math.ceil(window_s / 86_400 * 1e6) / 1e6
            raise ValueError(
                f"train.item_ttl_d {ttl_d} is less than stream.action_window_s, {window_s} s, so items would be gone "
                f"before their labels are final; take at least {least_d:.6f}, or 0 for no end"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first: arguments, environment, file."""
        return init_settings, _Variables(settings_cls), _File(settings_cls, _file.get())


class _Variables(EnvSettingsSource):
    """The environment, where a list is JSON or has commas between its parts."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the value of a table or of a list; raises ValueError if it is none."""
        if get_origin(field.annotation) is not tuple or value.lstrip().startswith("["):
            return super().decode_complex_value(field_name, field, value)
        return [part.strip() for part in value.split(",") if part.strip()]

    def explode_env_vars(self, field_name: str, field: FieldInfo, env_vars: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the settings of one table; a variable of a list that is empty is the empty list."""
        found = super().explode_env_vars(field_name, field, env_vars)
        return {key: [] if value == "" and self._is_list(field, key) else value for key, value in found.items()}

    def _is_list(self, table: FieldInfo, key: str) -> bool:
        setting = self.next_field(table, key, case_sensitive=False)
        return isinstance(setting, FieldInfo) and get_origin(setting.annotation) is tuple


class _File(TomlConfigSettingsSource):
    """hstu.toml, without a secret that the environment gives by the other of its two keys, X and X_file."""

    def __call__(self) -> dict[str, Any]:
        """Return the file's settings."""
        found = super().__call__()
        for name, table in found.items():
            field = Settings.model_fields.get(name)
            known = getattr(field and field.annotation, "model_fields", {})
            secrets = [key for key, of in known.items() if of.annotation is SecretStr]
            for one, other in [pair for key in secrets for pair in ((key, f"{key}_file"), (f"{key}_file", key))]:
                if f"{PREFIX}{name}__{one}".upper() in os.environ:
                    found[name] = _without(table, other)
                    table = found[name]
        return found


def _without(table: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table of the file as its leaves, without one that is written with a dot or an underscore."""
    return {name: value for name, value in leaves(table) if name.replace(".", "_") != key}


def load(file: Path | None = None, flags: dict[str, Any] | None = None) -> Settings:
    """Read the file (default: hstu.toml if there is one), the environment, then flags such as {"train.name": "a"}.

    Flags whose value is None were not given.

    Raises:
        SimError: The file cannot be read, a key is unknown (the error lists the keys), or a value is out of range.
    """
    path = file or Path("hstu.toml")
    token = _file.set(path)
    try:
        if file is not None:
            file.open().close()  # a named file must exist; pydantic skips one that does not
        _refuse_unknown_variables()
        return Settings(**_tree(flags or {}))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SimError(
            f"The configuration {path} cannot be read: {error}; mend it or name another by --config."
        ) from error
    except SettingsError as error:  # a variable of a whole table, or of a list, is JSON
        hint = "set single keys by variables such as HSTU_TRAIN__NAME"
        raise SimError(f"The environment cannot be read: {error}; {hint}.") from None
    except ValidationError as error:
        raise SimError(_sentence(error, str(path))) from None
    finally:
        _file.reset(token)


def _tree(flags: dict[str, Any]) -> dict[str, Any]:
    """Return {"train.name": "a"} as {"train": {"name": "a"}}, without the flags that were not given."""
    tree: dict[str, Any] = {}
    for dotted, value in flags.items():
        if value is not None:
            table, _, key = dotted.rpartition(".")
            (tree.setdefault(table, {}) if table else tree)[key] = value
    return tree


def _keys(table: str = "") -> list[str]:
    """Return the keys of a table, or of the top level."""
    owner: Any = Settings.model_fields[table].annotation if table else Settings
    return sorted(field.alias or name for name, field in getattr(owner, "model_fields", {}).items())


def _variables() -> set[str]:
    """Return the names of all variables that are settings."""
    names = set(_keys())
    for table, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= {f"{table}__{key.replace('.', '_')}" for key in _keys(table)}
    return {PREFIX + name.upper() for name in names}


def _refuse_unknown_variables() -> None:
    """Refuse a misspelt variable, which would be without effect.

    Kubernetes sets HSTU_SERVER_SERVICE_HOST, HSTU_SERVER_PORT, … for a Service called hstu-server; these are ignored,
    but not HSTU_SERVE_PORT=9000 alone, which is a misspelt HSTU_SERVE__PORT.
    """
    names, tables = _variables(), {PREFIX + table.upper() for table in _keys() if _keys(table)}
    for variable in os.environ:
        name = variable.upper()
        if not name.startswith(PREFIX) or name in names or _is_of_kubernetes(name):
            continue
        near = get_close_matches(name, [each for each in names if each not in tables], 1, cutoff=0.8)
        hint = f"{near[0]} is the nearest" if near else "`hstu settings` lists them"
        raise SimError(f"The environment sets {variable}, which is no setting; unset it or mend its name: {hint}.")


def _is_of_kubernetes(name: str) -> bool:
    """Return whether a variable is of a Service: by its value tcp://…, or with …_SERVICE_HOST and …_SERVICE_PORT."""
    if "_PORT" in name and _OF_A_SERVICE.match(os.environ.get(name, "")):
        return True
    services = (name[: end.start()] for end in _OF_KUBERNETES.finditer(name))
    return any({f"{service}_SERVICE_HOST", f"{service}_SERVICE_PORT"} <= os.environ.keys() for service in services)


def _sentence(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        table = str(first["loc"][0]) if len(first["loc"]) > 1 else ""
        scope = f"table [{table}]" if table else "the top level"
        near = get_close_matches(str(first["loc"][-1]), _keys(table), 1)
        hint = f"{near[0]} is the nearest; " if near else ""
        if table and (variable := PREFIX + table.upper()) in os.environ:  # a whole table as JSON
            where = f"{where} or the variable {variable}"
        return f"{where} sets {place}, which is no setting; {hint}{scope} knows {', '.join(_keys(table))}."
    message = first["msg"].removeprefix("Value error, ")
    source = f"(from {where}, HSTU_* or a flag)"
    if not first["loc"]:
        return f"The settings {source} are refused together: {message}."
    value = f" = {first['input']!r}" if _may_be_shown(first["loc"], first["input"]) else ""
    return f"The setting {place}{value} {source} is refused: {message}."


def _may_be_shown(loc: tuple[int | str, ...], value: Any) -> bool:
    """Return whether what pydantic refused holds no secret: a single value where a setting that is none belongs."""
    owner: Any = Settings
    for part in map(str, loc):
        fields = getattr(owner, "model_fields", {}).items()
        owner = next((field.annotation for name, field in fields if part in (name, field.alias)), None)
    return owner is not SecretStr and not hasattr(owner, "model_fields") and isinstance(value, bool | int | float | str)
