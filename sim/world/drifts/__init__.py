"""Kinds of drift, one a file: a table of the scenario file, its law, and when it happens.

DRIFTS has every drift of this folder, by the name of its table: that of its class in small letters. A new kind of drift
is a new file here, and a scenario file that has its table. The guide is in docs/simulator.md.
"""

from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from typing import Final

from sim.world.drifts.drift import Drift, DriftLaw, Moment

__all__ = ["DRIFTS", "Drift", "DriftLaw", "Moment"]


def _found() -> Iterator[type[Drift]]:
    for file in iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Drift) and not isabstract(value):
                yield value


DRIFTS: Final[dict[str, type[Drift]]] = {drift.__name__.lower(): drift for drift in _found()}
