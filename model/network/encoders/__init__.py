"""Encoders, one a file: the file's name is what `model.encoder` says, and its class Encoder is what a recommender uses.

Each has the constructor and the `forward` of hstu.py, and keeps the laws of tests/laws.py. A new one is a
file here and its name in config.ModelSettings.encoder; a file without a class Encoder helps the others.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from torch import nn


def _found() -> Iterator[tuple[str, type[nn.Module]]]:
    for file in iter_modules(__path__):
        encoder = getattr(import_module(f"{__name__}.{file.name}"), "Encoder", None)
        if encoder is not None:
            yield file.name, encoder


ENCODERS: Final[dict[str, type[nn.Module]]] = dict(_found())
