from typing import Any

import numpy as np

from model.attention.cpu import matmul, row_ops


def test_a_tile_is_transposed_and_nothing_else_changes() -> None:
    """Neither the source nor the entries around the target change."""
    a, out = np.arange(40 * 50, dtype=np.float32).reshape(40, 50), np.zeros((40, 40), np.float32)

    @row_ops.compiled
    def run(out: Any, a: Any) -> None:
        matmul.transpose_tile(out, a, 5, 7, 3, 9)

    run(out, a)
    wanted = np.zeros_like(out)
    wanted[5:21, 7:23] = a[3:19, 9:25].T
    assert np.array_equal(out, wanted)
