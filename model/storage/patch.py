"""Patches: what turns one dictionary of arrays into another, to the bit, whatever the arrays are.

R = rows of an array, its first dimension. Each array that changed is written in the shortest of these ways:

    rows     its rows that differ, in place, and those that came last
    steps    the same of the differences between neighbours: offsets that all move by the length of one text
    splice   stretches of the old array and what lies between them (model/arrays/splice.py): insertions, removals
    whole    all of it

    in a patch's arrays         of array `name`
    <name>/rows       u32  [c]  rows that differ, ascending         } rows, steps
    <name>/values     *    [c, …] their values                      }
    <name>/stretches  i64  [k, 3] as in Splice                      } splice
    <name>/rest       *         what is in no stretch               }
    <name>/whole      *         the array                           } whole

With a threshold, rows of floats count as equal where no number has moved by more than that share of the row's largest
magnitude. They are compared with what was published, so what is held back does not add up.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from model.arrays.digest import digest_arrays
from model.arrays.jit import compiled
from model.arrays.splice import Splice, splice, spliced, words
from model.errors import ModelError

Array = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
_ENOUGH: Final = 8  # rows alone are taken where they are no more than one in so many bytes of the array


class ArrayPatch(msgspec.Struct, frozen=True):
    """How one array is written."""

    how: Literal["rows", "steps", "splice", "whole"]
    dtype: str
    shape: tuple[int, ...]


class Patch(msgspec.Struct, frozen=True):
    """A difference of two dictionaries, but for its arrays."""

    changed: dict[str, ArrayPatch]
    gone: tuple[str, ...]

    def parts(self) -> list[str]:
        """Return the names of its arrays."""
        return [f"{name}/{part}" for name, each in self.changed.items() for part in _PARTS[each.how]]


def state_digest(arrays: Arrays) -> str:
    """Return the xxh3_128 of all arrays in order of their names, in hex."""
    hasher = xxh3_128()
    digest_arrays(hasher, {name: arrays[name] for name in sorted(arrays)})
    return hasher.hexdigest()


def difference(old: Arrays, new: Arrays, threshold: float = 0.0) -> tuple[Patch, dict[str, Array]]:
    """Return the patch from old to new, and its arrays, none of which is a view of theirs.

    Args:
        old: The arrays that the reader has.
        new: Those it is to have.
        threshold: 0: to the bit. Above it, as written at the top.
    """
    changed: dict[str, ArrayPatch] = {}
    arrays: dict[str, Array] = {}
    for name, array in new.items():
        before = old.get(name)
        if before is not None and _row_of(before) == _row_of(array):
            how, parts = _shortest(before, array, threshold)
        else:
            how, parts = "whole", {"whole": array.copy()}
        if parts:
            changed[name] = ArrayPatch(how, array.dtype.str, array.shape)
            arrays |= {f"{name}/{part}": value for part, value in parts.items()}
    return Patch(changed, tuple(sorted(old.keys() - new.keys()))), arrays


def _shortest(old: Array, new: Array, threshold: float) -> tuple[Any, dict[str, Array]]:
    """Return the shortest way to write an array, and its parts; no parts where nothing changed."""
    if new.ndim == 0 or not new.size:
        return "whole", {} if old.shape == new.shape and old.tobytes() == new.tobytes() else {"whole": new.copy()}
    rows = _rows(old, new, threshold)
    if not len(rows["rows"]) and len(old) == len(new):
        return "rows", {}
    ways: dict[str, dict[str, Array]] = {"rows": rows}
    if new.ndim == 1 and _ENOUGH * _size(rows) > new.nbytes:
        if new.dtype.kind in "iu":
            ways["steps"] = _rows(_steps(old), _steps(new), 0.0)
        ways["splice"] = splice(old, new)._asdict()
    ways["whole"] = {"whole": new.copy()}
    return min(ways.items(), key=lambda way: _size(way[1]))


def _row_of(array: Array) -> tuple[str, int, tuple[int, ...]]:
    """Return what arrays must have in common for one to be made of rows of the other."""
    return array.dtype.str, array.ndim, array.shape[1:]


def _size(parts: Mapping[str, Array]) -> int:
    return sum(part.nbytes for part in parts.values())


def _steps(array: Array) -> Array:
    """Return the differences between neighbours, the first one from 0; overflow wraps, as it does on the way back."""
    return np.diff(array, prepend=array.dtype.type(0))


def _rows(old: Array, new: Array, threshold: float) -> dict[str, Array]:
    both = min(len(old), len(new))
    differs = np.ones(len(new), np.bool_)
    flat = new.reshape(len(new), -1), old.reshape(len(old), -1) if len(old) else old.reshape(0, new[:1].size)
    if threshold and new.dtype.kind == "f":
        _moved(flat[1], flat[0], threshold, differs[:both])
    else:
        _differ(words(flat[1]), words(flat[0]), differs[:both])
    at = np.flatnonzero(differs)
    return {"rows": at.astype(np.uint32), "values": new[at]}


@compiled
def _differ(old: Array, new: Array, differs: Array) -> None:
    for row in range(len(differs)):
        differs[row] = False
        for k in range(new.shape[1]):
            if old[row, k] != new[row, k]:
                differs[row] = True
                break


@compiled
def _moved(old: Array, new: Array, threshold: float, moved: Array) -> None:
    for row in range(len(moved)):
        most = largest = 0.0
        odd = False  # a number that is not finite
        for k in range(new.shape[1]):
            change = abs(np.float64(new[row, k]) - np.float64(old[row, k]))
            most, largest = max(most, change), max(largest, abs(np.float64(new[row, k])))
            odd = odd or not np.isfinite(change)
        moved[row] = odd or most > threshold * largest


def patched(old: Arrays, patch: Patch, arrays: Arrays) -> dict[str, Array]:
    """Return the arrays that a patch leads to; those it does not change are the old ones themselves.

    Raises:
        ModelError: An array has another width or dtype than the patch is for, or the patch is damaged.
    """
    if why := misfit(old, patch):
        raise ModelError(why)
    new = {name: array for name, array in old.items() if name not in patch.gone}
    for name, each in patch.changed.items():
        try:
            new[name] = _patched(old.get(name), each, {part: arrays[f"{name}/{part}"] for part in _PARTS[each.how]})
        except (KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"its array {name} is damaged: {error!r}") from None
    return new


def misfit(old: Arrays, patch: Patch) -> str | None:
    """Return which array has another width or dtype than a patch is for; None where all fit."""
    for name, each in patch.changed.items():
        before = old.get(name)
        if each.how != "whole" and (before is None or _row_of(before) != (each.dtype, len(each.shape), each.shape[1:])):
            there = "no such array" if before is None else f"{before.dtype.str} {list(before.shape)}"
            return f"it is for a table {name} of {each.dtype} {list(each.shape)}, and there is {there}"
    return None


_PARTS: Final = {
    "rows": ("rows", "values"),
    "steps": ("rows", "values"),
    "splice": ("stretches", "rest"),
    "whole": ("whole",),
}


def _patched(old: Array | None, each: ArrayPatch, parts: dict[str, Array]) -> Array:
    if each.how == "whole" or old is None:
        new = parts["whole"]
    elif each.how == "splice":
        new = spliced(old, Splice(parts["stretches"], parts["rest"]), *each.shape)
    elif each.how == "steps":
        new = np.cumsum(_with_rows(_steps(old), each.shape, parts), dtype=old.dtype)
    else:
        new = _with_rows(old, each.shape, parts)
    if new.dtype.str != each.dtype or new.shape != each.shape:
        raise ValueError(f"{new.dtype.str} {new.shape} instead of {each.dtype} {each.shape}")
    return new


def _with_rows(old: Array, shape: tuple[int, ...], parts: dict[str, Array]) -> Array:
    kept = min(len(old), shape[0])
    if shape[0] - kept > len(parts["rows"]):
        raise ValueError("rows are missing")
    new = np.empty(shape, old.dtype)
    new[:kept] = old[:kept]
    new[kept:] = 0
    new[parts["rows"]] = parts["values"]
    return new
