"""Rivals of the model that count, one a file: they answer the same questions, `ranks`, and then `learn`.

BASELINES has every class of this folder that is a whole Baseline, by its name. A new one is a new file, and no more.
"""

from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from typing import Final

from model.baselines.base import Baseline

__all__ = ["BASELINES", "Baseline"]


def _found() -> Iterator[type[Baseline]]:
    for file in iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Baseline) and not isabstract(value):
                yield value


BASELINES: Final[dict[str, type[Baseline]]] = {baseline.name: baseline for baseline in _found()}
