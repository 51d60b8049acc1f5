"""From the flags of a recorded log (sim/log_flags.py) to a source."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import RecordedLog, read_log


def log_settings(flags: Mapping[str, Any]) -> LogSettings:
    """Return the settings of flags, each None where it was not given.

    Raises:
        SimError: They contradict one another.
    """
    names = {field.name for field in fields(LogSettings)}
    return LogSettings(**{name: value for name, value in flags.items() if name in names and value is not None})


def open_log(log: Sequence[str], flags: Mapping[str, Any]) -> RecordedLog:
    """Read a log by the flags of `with_log_flags`.

    Raises:
        SimError: The flags contradict one another, or a file, a column or a cell cannot be read.
    """
    if len(log) != 1:
        raise SimError("Name one file.")
    items = flags.get("items")
    return read_log(Path(log[0]), log_settings(flags), Path(items) if items else None)
