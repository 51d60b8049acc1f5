import copy
import os
from typing import Any

import numpy as np
import pytest
import torch

from model.arrays import growable
from model.arrays.growable_tensors import lengthen_tensors
from model.storage import background
from model.storage.background import Background

ROWS, MORE = 1 << 17, 1 << 18  # of 8 and 16 bytes: these tensors have mappings


def tables(rows: int = ROWS) -> dict[str, Any]:
    parts = {"wide": torch.empty(0, 4), "steps": torch.empty(0, dtype=torch.int64)}
    lengthen_tensors(parts, rows, "wide", "steps")
    parts["wide"][:] = torch.arange(rows)[:, None]
    parts["steps"][:] = torch.arange(rows)
    return parts


def mappings(parts: dict[str, Any]) -> list[object]:
    return [growable._maps.get(part.data_ptr()) for part in parts.values()]


@pytest.mark.skipif(not growable._MAPS, reason="memory is remapped on Linux")
def test_tensors_that_nobody_holds_grow_in_place() -> None:
    """With their rows, in the mappings that they have."""
    parts = tables()
    before = mappings(parts)
    lengthen_tensors(parts, MORE, "wide", "steps")
    assert mappings(parts) == before
    assert None not in before
    assert parts["wide"].shape == (MORE, 4)
    assert torch.equal(parts["steps"][:ROWS], torch.arange(ROWS))
    assert torch.equal(parts["wide"][:ROWS, 3], torch.arange(ROWS).float())


@pytest.mark.parametrize("rows", [10, ROWS])
def test_what_a_graph_has_saved_stays(rows: int) -> None:
    """A gradient of what was computed before the growth is that of the rows as they were."""
    parts = tables(rows)
    leaf = torch.ones(rows, 4, requires_grad=True)
    loss = (parts["wide"] * leaf).sum()
    seen = parts["wide"].numpy()[rows - 1]
    lengthen_tensors(parts, 2 * rows, "wide", "steps")
    parts["wide"].fill_(-1)
    loss.backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad[:, 0], torch.arange(rows).float())
    assert seen.tolist() == 4 * [rows - 1]


def test_a_deep_copy_is_apart() -> None:
    """Both grow on, and neither writes to the other."""
    parts = tables()
    other = copy.deepcopy(parts)
    for each, value in ((parts, 1), (other, 2), (parts, 3)):
        lengthen_tensors(each, len(each["wide"]) + MORE, "wide", "steps")
        each["wide"][:ROWS] = value
    assert parts["wide"][:ROWS].unique().tolist() == [3]
    assert other["wide"][:ROWS].unique().tolist() == [2]
    assert torch.equal(other["steps"][:ROWS], torch.arange(ROWS))


@pytest.mark.skipif(not background.POSSIBLE, reason="forks beside threads are for Linux")
def test_a_writer_beside_the_training_sees_its_moment() -> None:
    """The rows move and change in the parent while the child reads them."""
    parts, texts = tables(), []
    writer, (reader, go) = Background(), os.pipe()

    def job() -> str:
        os.read(reader, 1)
        return str(bool((parts["wide"].numpy() == np.arange(ROWS)[:, None]).all()))

    writer.begin("rows", job, texts.append)
    lengthen_tensors(parts, MORE, "wide", "steps")
    parts["wide"].fill_(-1)
    os.write(go, b"!")
    writer.wait()
    assert texts == ["True"]


@pytest.mark.parametrize("rows", [10, ROWS])
def test_room_that_does_not_exist_changes_nothing(rows: int) -> None:
    """The tensors keep their rows, and grow on."""
    parts = tables(rows)
    with pytest.raises(MemoryError):
        lengthen_tensors(parts, 2**48, "wide", "steps")
    lengthen_tensors(parts, 2 * rows, "wide", "steps")
    assert torch.equal(parts["wide"][:rows, 0], torch.arange(rows).float())
