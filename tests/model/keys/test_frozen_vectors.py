import doctest
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import model.keys.frozen_vectors
from model.keys.frozen_vectors import FrozenVectors
from tests.strategies import tries

KEYS = np.array([*range(1, 9), 2**64 - 1], np.uint64)
MOST = 4


@dataclass
class Model:
    """The newest deaths by a list, of which those that came back are struck out."""

    deaths: list[tuple[int, list[float]] | None] = field(default_factory=list)

    def kept(self) -> dict[int, list[float]]:
        return dict(death for death in self.deaths[-MOST:] if death is not None)

    def forget(self, keys: list[int]) -> None:
        self.deaths = [None if death is not None and death[0] in keys else death for death in self.deaths]


def agree(frozen: FrozenVectors, model: Model) -> None:
    places = frozen.rows(KEYS)
    found = {int(key): frozen.vectors[at].tolist() for key, at in zip(KEYS, places, strict=True) if at >= 0}
    assert found == model.kept()
    assert len(frozen) == min(len(model.deaths), MOST)


def copied(state: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    return {name: array.copy() for name, array in state.items()}


@settings(deadline=None, max_examples=tries(40))
@given(
    st.lists(st.tuples(st.sampled_from(["die", "come back", "resume"]), st.permutations(range(9)), st.integers(0, 7)))
)
def test_any_schedule_agrees_with_a_list(schedule: list[tuple[str, list[int], int]]) -> None:
    """Deaths, returns and checkpoints in any order; more deaths at once than are kept; two rings have one state."""
    frozen, model, number = FrozenVectors(2, MOST), Model(), 0.0
    for what, order, count in schedule:
        keys = KEYS[order[:count]]
        if what == "die":
            keys = np.array([key for key in keys.tolist() if key not in dict(filter(None, model.deaths))], np.uint64)
            vectors = np.stack((np.arange(len(keys)) + number, np.full(len(keys), 0.5)), axis=1).astype(np.float32)
            number += len(keys)
            frozen.keep(keys, vectors)
            model.deaths += zip(keys.tolist(), vectors.tolist(), strict=True)
        elif what == "come back":
            frozen.forget(keys)
            model.forget(keys.tolist())
        else:
            state, frozen = copied(frozen.state()), FrozenVectors(2, MOST)
            frozen.load_state(state)
            assert all(np.array_equal(array, state[name]) for name, array in frozen.state().items())
        agree(frozen, model)
    empty = frozen.vectors[frozen.state()["keys"] == 0]
    assert not empty.any()


def test_a_state_of_a_run_that_kept_none_empties_it() -> None:
    """So a run that begins with the weights of such a run keeps what dies from then on."""
    frozen = FrozenVectors(2)
    frozen.keep(KEYS, np.ones((len(KEYS), 2), np.float32))
    frozen.load_state({})
    agree(frozen, Model())
    frozen.keep(KEYS[:1], np.zeros((1, 2), np.float32))
    assert frozen.rows(KEYS[:2]).tolist() == [0, -1]


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.keys.frozen_vectors).failed == 0
