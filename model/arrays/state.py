"""State dictionaries: the arrays of several parts in one mapping, with a prefix of their names for each part."""

from collections.abc import Mapping
from typing import Any


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with the prefix put before their names."""
    return {prefix + name: array for name, array in state.items()}


def under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries whose names begin with the prefix, without it: the inverse of prefixed()."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
