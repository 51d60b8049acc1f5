from typing import Any

import numpy as np
import pytest

from model.arrays import growable, growable_tensors
from model.learning.learner import Learner
from model.optim.embedding_table import BLOCK
from tests.factories import START_MS
from tests.model.learning.test_learner import MODEL, TRAIN, batches, stream

AS_THEY_WERE = {"_keys", "_born_ms"}  # which the targets of a micro-batch are asked about while its items enter


@pytest.mark.skipif(not growable._MAPS, reason="memory is remapped on Linux")
def test_no_table_is_copied_when_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a step leaves behind has a view of one: a copy would be a stall where there are a million items."""
    for module in (growable, growable_tensors):
        monkeypatch.setattr(module, "LEAST", 64)
    ways: dict[bool, set[str]] = {True: set(), False: set()}
    remap = growable._remap

    def spy(parts: dict[str, Any], rows: int, name: str) -> bool:
        mapped = growable._address(parts[name]) in growable._maps
        moved = remap(parts, rows, name)
        if mapped:
            ways[moved].add(name)
        return moved

    monkeypatch.setattr(growable, "_remap", spy)
    learner = Learner(MODEL, TRAIN)
    for number, batch in enumerate(batches(stream(seed=1, users=6, items=30, count=32))):
        learner.step(batch)
        more = np.arange(1 + number * 2 * BLOCK, 1 + (number + 1) * 2 * BLOCK, dtype=np.uint64)
        learner.items.admit(more, np.full(len(more), START_MS))
    assert {"weight", "_mean", "_square", "_steps", "_units", "_together_totals", "_begins"} <= ways[True]
    assert ways[False] <= AS_THEY_WERE
