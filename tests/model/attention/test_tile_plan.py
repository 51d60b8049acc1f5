from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from model.attention.tile_plan import plan_tiles
from model.errors import ModelError
from tests.model.attention.attention_cases import offsets_of


def test_padding_is_bounded() -> None:
    """The tiles of sequences of very different lengths have less than twice the scores that are needed."""
    lengths = torch.randint(1, 400, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    plan = plan_tiles(offsets_of(lengths), max_len=400, tokens=sum(lengths), heads=2)
    scores = sum(len(tile.sequences) * tile.visible[0].numel() for tile in plan.tiles)
    assert scores < 2 * sum(n * (n + 1) // 2 for n in lengths)


def test_candidates_cost_nothing_for_one_another() -> None:
    """1,000 candidates after a history of 50 have scores for the history and for themselves, not for each other."""
    plan = plan_tiles(offsets_of([1050]), max_len=64, tokens=1050, heads=2, num_targets=torch.tensor([1000]))
    assert sum(tile.visible.numel() for tile in plan.tiles) == 50 * 50 + 1000 * 51


OFFSETS = offsets_of([2, 3])
WRONG = [
    ({"offsets": offsets_of([2, 2])}, "from 0 to 4 .*must rise from 0 to 5"),
    ({"offsets": torch.tensor([0, 6, 5])}, "shortest sequence: -1"),
    ({"offsets": OFFSETS.int()}, "offsets must be int64"),
    ({"num_targets": torch.tensor([0])}, r"num_targets must be int64 \[B\] = \[2\], not int64 \[1\]"),
    ({"num_targets": torch.tensor([0, 4])}, "Sequence 1 has 3 tokens, so 4 of them cannot be candidates"),
    ({"max_len": 2}, "Sequence 1 has 3 tokens .*more than max_len 2"),
    ({"window": -1}, "window is -1"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(change: dict[str, Any], sentence: str) -> None:
    """A batch that does not fit names what was given and what is wanted."""
    given: dict[str, Any] = {"offsets": OFFSETS, "max_len": 8, "tokens": 5, "heads": 2, **change}
    with pytest.raises(ModelError, match=sentence):
        plan_tiles(**given)


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 3), st.sampled_from([0, 1, 9]))
@settings(deadline=None)
def test_every_token_is_an_output_once(lengths: list[int], candidates: int, window: int) -> None:
    """`where` has a different row for each token and head, and each row of a tile sees itself."""
    targets = torch.tensor([min(candidates, length) for length in lengths], dtype=torch.int64)
    tokens = sum(lengths)
    plan = plan_tiles(offsets_of(lengths), max_len=30, tokens=tokens, heads=2, num_targets=targets, window=window)
    assert len(set(plan.where.tolist())) == len(plan.where) == 2 * tokens
    assert [tile.number for tile in plan.tiles] == list(range(len(plan.tiles)))
    assert all(((tile.rows == tile.keys) & tile.visible).any(-1).all() for tile in plan.tiles)
