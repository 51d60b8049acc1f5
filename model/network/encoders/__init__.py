"""Encoders, one per file. A file's name is its name in `model.encoder`; its class Encoder extends base.JaggedEncoder.

To add one, write a file here and its name into EncoderName (model/config.py). The laws of tests/laws.py and
tests/model/network/encoders/test_every_encoder.py then apply to it. Files without a class Encoder are helpers.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from model.network.encoders.base import JaggedEncoder


def _found() -> Iterator[tuple[str, type[JaggedEncoder]]]:
    for file in iter_modules(__path__):
        encoder = getattr(import_module(f"{__name__}.{file.name}"), "Encoder", None)
        if encoder is not None:
            yield file.name, encoder


ENCODERS: Final[dict[str, type[JaggedEncoder]]] = dict(_found())
