"""Settings of runs as flat dictionaries, and the one number in which variants differ."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import polars as pl

from model.config import ModelSettings, TrainSettings
from sim.report.analysis.results import Results

Leaves = dict[str, Any]


def leaves(text: str | None) -> Leaves:
    """Return a run's settings under dotted names: {"train.learning_rate": 0.003}; empty where there are none."""
    try:
        return flat(json.loads(text or "{}"))
    except ValueError:
        return {"settings": text}


def flat(value: Mapping[str, Any], path: str = "") -> Leaves:
    """Return the leaves of nested JSON under dotted names; an empty object is a leaf."""
    found: Leaves = {}
    for key, part in value.items():
        name = f"{path}.{key}" if path else str(key)
        found |= flat(part, name) if isinstance(part, Mapping) and part else {name: part}
    return found


def varied(results: Results, scenario: str) -> tuple[str, dict[tuple[str, str], float]] | None:
    """Return the name of the one number in which a scenario's variants differ, and its value for each of them.

    None if no contestant has variants, or if they differ in more than one number or in something else.
    """
    runs = results.runs.filter(pl.col("scenario") == scenario)
    of_variant = {
        (contestant, variant): leaves(text)
        for contestant, variant, text in runs.select("contestant", "variant", "settings").iter_rows()
    }
    several = [key for key in of_variant if sum(other[0] == key[0] for other in of_variant) > 1]
    names = {name for key in several for name in of_variant[key]} - {"variant", "seed", "train.seed"}
    values = {name: {key: of_variant[key].get(name, _default(name)) for key in several} for name in names}
    differing = [name for name in sorted(names) if _differs(values[name])]
    if len(differing) != 1 or not all(is_number(value) for value in values[differing[0]].values()):
        return None
    return differing[0].split(".")[-1].replace("_", " "), {key: float(v) for key, v in values[differing[0]].items()}


def _differs(value_of: dict[tuple[str, str], Any]) -> bool:
    """Return whether some contestant has two values of a setting."""
    return any(a[0] == b[0] and value_of[a] != value_of[b] for a in value_of for b in value_of)


def _default(name: str) -> Any:
    """Return the default of a setting that a run does not name."""
    table, _, key = name.partition(".")
    field = {"train": TrainSettings.model_fields, "model": ModelSettings.model_fields}.get(table, {}).get(key)
    return None if field is None else field.default


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a number and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
