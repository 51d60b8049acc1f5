"""Tensors that grow row by row: on a CPU as arrays do (model/arrays/growable.py), on other devices by a copy."""

import math
from collections.abc import MutableMapping
from typing import Any

import torch

from model.arrays.growable import LEAST, lengthen


def lengthen_tensors(parts: MutableMapping[str, Any], rows: int, *names: str) -> None:
    """Have at least `rows` rows in each of these tensors; new rows may hold anything.

    Args:
        parts: Tensors by name, such as the attributes of an object (`vars(self)`). These must be the only references to
            tensors that are to grow without a copy.
        rows: The number of rows.
        names: Of the tensors.

    Raises:
        MemoryError: There is not so much on a CPU; the tensors hold what they held.
        RuntimeError: The same on another device.
    """
    for name in names:
        old = parts[name]
        if rows <= len(old):
            continue
        if old.device.type != "cpu" or rows * math.prod(old.shape[1:]) * old.element_size() < LEAST:
            parts[name] = old.new_empty(rows, *old.shape[1:])
            parts[name][: len(old)] = old
            continue
        parts[name] = old.numpy()
        del old
        try:
            lengthen(parts, rows, name)
        finally:
            parts[name] = torch.from_numpy(parts[name])
