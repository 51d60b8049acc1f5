import torch
from hypothesis import given, settings, strategies as st

from model.network.retrieval_loss import unit
from model.optim.embedding_table import EmbeddingTable
from model.optim.unit_rows import UnitRows

steps = st.lists(st.tuples(st.integers(1, 3000), st.lists(st.integers(0, 5000), max_size=5, unique=True)), max_size=6)


@given(steps)
@settings(deadline=None, max_examples=25)
def test_unit_rows_are_those_of_the_rows_as_they_are(changes: list[tuple[int, list[int]]]) -> None:
    """After any growth and any steps, to the bit what normalizing all rows gives."""
    table = EmbeddingTable(8, seed=1, std=0.02)
    unit_rows = UnitRows(table)
    for size, rows in changes:
        table.grow(size)
        assert torch.equal(unit_rows.first(size), unit(table.rows[:size]))
        moved = torch.tensor([row for row in rows if row < len(table)], dtype=torch.int64)
        table.step(moved, torch.randn(len(moved), 8), 0.1)
        unit_rows.refresh(moved)
        assert torch.equal(unit_rows.first(len(table)), unit(table.rows))
