from hypothesis import given, strategies as st

from model.arrays.state import prefixed, under

states = st.dictionaries(st.text("ab.", max_size=4), st.integers())


@given(states, states)
def test_parts_come_back_out_of_one_mapping(items: dict[str, int], features: dict[str, int]) -> None:
    """Each part with its names and in its order, whatever the names of the other part are."""
    merged = prefixed("items.", items) | prefixed("features.", features)
    assert list(under("items.", merged).items()) == list(items.items())
    assert list(under("features.", merged).items()) == list(features.items())
    assert len(merged) == len(items) + len(features)
