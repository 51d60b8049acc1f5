"""The model's baselines, which count and have no gradients, one a file: `ranks` answers questions, then `learn`.

BASELINES has every concrete Baseline of this folder by its name. A new one is a new file, and nothing else (base.py).
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
