import pytest
from hypothesis import given, strategies as st

from model.data.entity_index import EntityIndex
from model.evaluation import sample
from model.evaluation.sample import drawn, share_of
from tests.model.learning.test_learner import batches, stream


@pytest.mark.parametrize(
    ("items", "share"),
    [(0, 1), (1, 1), (65_536, 1), (65_537, 1 / 2), (131_072, 1 / 2), (131_073, 1 / 4), (1_000_000, 1 / 16)],
)
def test_a_test_costs_the_same_by_default_however_many_items(items: int, share: float) -> None:
    """All targets up to the budget, then a half for every doubling; a setting is taken as it is."""
    assert share_of(items, 0.0) == share
    assert share_of(items, 0.3) == 0.3


@given(st.integers(1, 5), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_what_is_drawn_depends_on_the_log_alone(size: int, one: float, other: float) -> None:
    """Whatever the micro-batches; and a larger share draws what a smaller one draws."""
    examples = stream(count=40)
    found = []
    for each in (size, 40):
        index, places = EntityIndex(), {}
        for start in range(0, 40, each):
            questions = index.ask(examples[start : start + each])
            small, large = (drawn(questions, share) for share in sorted((one, other)))
            assert (large | ~small).all()
            keys = zip(questions.users.tolist(), questions.request_ms.tolist(), questions.items.tolist(), strict=True)
            places |= dict(zip(keys, small.tolist(), strict=True))
        found.append(places)
    assert found[0] == found[1]


def test_the_share_drawn_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within chance, and for the default where the catalogue is beyond the budget."""
    index = EntityIndex()
    for batch in batches(stream(count=400)):
        index.take_in(batch)
    questions = index.ask(stream(count=2000))
    assert abs(drawn(questions, 0.25).mean() - 0.25) < 0.04
    assert drawn(questions, 0.0).all()
    monkeypatch.setattr(sample, "BUDGET", 1 + (len(questions.born_ms) - 1) // 2)
    assert abs(drawn(questions, 0.0).mean() - 0.5) < 0.05
