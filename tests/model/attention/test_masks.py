import torch
from hypothesis import given, strategies as st

from model.attention.masks import place, row_places, sees
from tests.model.attention.attention_cases import offsets_of


@given(st.integers(0, 9), st.integers(0, 5), st.integers(0, 6))
def test_a_row_sees_itself_and_the_history_before_it(history: int, candidates: int, window: int) -> None:
    """For each row and key; a window counts places, and all candidates have the same place."""
    index = torch.arange(history + candidates)
    seen = sees(index[:, None], index, history, window).tolist()
    for row in range(len(index)):
        for key in range(len(index)):
            before = key < min(row, history) and (not window or min(row, history) - key <= window)
            assert seen[row][key] == (key == row or before), (row, key)


def test_candidates_stand_at_the_end_of_the_history() -> None:
    """The history's length may be a number or a tensor."""
    index = torch.arange(5)
    assert place(index, 3).tolist() == [0, 1, 2, 3, 3]
    assert place(index, torch.tensor(3)).tolist() == [0, 1, 2, 3, 3]


def test_every_token_of_a_batch_has_its_place() -> None:
    """Empty sequences have no token; a sequence may consist of candidates alone."""
    places, candidate = row_places(offsets_of([4, 0, 2]), 6, torch.tensor([2, 0, 2]))
    assert places.tolist() == [0, 1, 2, 2, 0, 0]
    assert candidate.tolist() == [False, False, True, True, True, True]
    places, candidate = row_places(offsets_of([2, 3]), 5, None)
    assert places.tolist() == [0, 1, 0, 1, 2]
    assert not candidate.any()
