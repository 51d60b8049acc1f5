import numpy as np
import torch
from hypothesis import given, strategies as st

from model.network.encoders.padding import Blocks

CPU = torch.device("cpu")


@given(
    lengths=st.lists(st.integers(0, 9), max_size=8),
    gaps=st.integers(0, 2),
    alike=st.sampled_from([0.0, 0.5, 0.875, 1.0]),
)
def test_tokens_come_back_to_their_places(lengths: list[int], gaps: int, alike: float) -> None:
    """Every sequence is a row, padded with its last token; none is shorter than `alike` allows; gaps are left out."""
    lengths_B = np.array(lengths, np.int64)
    starts_B = np.cumsum(lengths_B + gaps) - lengths_B
    x = torch.arange(float((lengths_B + gaps).sum()))[:, None]
    blocks = Blocks(starts_B, lengths_B, alike, CPU)
    wanted = [x[s : s + n, 0].tolist() for s, n in zip(starts_B, lengths_B, strict=True) if n]
    rows = [row for block in (blocks.pad(x) if blocks.shapes else []) for row in block[..., 0].tolist()]
    found = {row[0]: row for row in rows}
    assert len(rows) == len(wanted)
    for tokens in wanted:
        row = found[tokens[0]]
        assert row == tokens + tokens[-1:] * (len(row) - len(tokens))
        assert len(tokens) >= alike * len(row)
    if blocks.shapes:
        assert blocks.unpad(blocks.pad(x))[:, 0].tolist() == [token for tokens in wanted for token in tokens]


def test_a_batch_of_one_length_is_not_copied() -> None:
    """It is its only block."""
    blocks = Blocks(np.array([0, 4, 8]), np.array([4, 4, 4]), 0.5, CPU)
    x = torch.rand(12, 3)
    assert blocks.in_place
    assert blocks.pad(x)[0].data_ptr() == x.data_ptr()
