from pathlib import Path

import numpy as np
from hypothesis import given, settings, strategies as st
from xxhash import xxh3_64_hexdigest

from model.arrays.jit import ANY_ORDER
from model.attention.cpu import layers, row_ops, sequence


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40), st.booleans())
@settings(deadline=None)
def test_products_by_tiles(rows: int, columns: int, k: int, transposed: bool) -> None:
    """For any shape, also without terms and with a transposed first factor; the output is replaced or added to."""
    rng = np.random.default_rng(0)
    wide = max(rows, k)
    a, b, before = (row_ops.buffer(n, m) for n, m in ((wide, wide), (k, columns), (rows, columns)))
    for array in (a, b, before):
        array[:] = rng.standard_normal(array.shape)
    left = a.T if transposed else a
    exact = left[:rows, :k].astype(np.float64) @ b[:k, :columns]
    for product, start in ((row_ops.product, 0.0), (row_ops.add_product, before[:rows, :columns])):
        out = before.copy()
        product(out, left, b, rows, columns, k)
        assert np.allclose(out[:rows, :columns], exact + start, atol=1e-5)


def test_what_is_compiled_is_kept_under_the_digest_of_all_sources() -> None:
    """Code that an edit of another file, or other flags, have changed is never taken from an old cache."""
    files = sorted(Path(row_ops.__file__).parent.glob("*.py"))
    assert {"simd.py", "matmul.py", "row_ops.py", "sequence.py", "layers.py"} <= {path.name for path in files}
    assert xxh3_64_hexdigest(b"".join(path.read_bytes() for path in files)) == row_ops.SOURCES
    for function in (layers.forward, sequence.attend_sequence, row_ops.gate):
        assert function.__qualname__.endswith("_".join((row_ops.SOURCES, *ANY_ORDER)))
