"""Tallies over the latest targets and over all: the window is made of tumbling blocks.

A block is closed as soon as it holds a tenth of the window's targets, so it is at most one micro-batch larger. The
window is the latest ten closed blocks and the open one: it covers at least the latest `targets` targets, and at most
eleven blocks.

    array of state()
    total.<name>    every array of the tally
    blocks.<name>   the same of every block, oldest first, the open one last, along a new first axis
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.evaluation.metrics import Tally

BLOCKS: Final = 10

T = TypeVar("T", bound=Tally)


class Window(Generic[T]):
    """The window's tally and the total.

    Args:
        empty: A tally that has counted nothing.
        targets: The number of latest targets that the window covers at least.
    """

    def __init__(self, empty: T, targets: int) -> None:
        self.total = empty.empty()
        self._block_targets = -(-targets // BLOCKS)
        self._blocks = deque([empty.empty()], maxlen=BLOCKS + 1)

    def add(self, tally: T) -> None:
        """Add the tally of one micro-batch."""
        self.total.add(tally)
        self._blocks[-1].add(tally)
        if self._blocks[-1].targets >= self._block_targets:
            self._blocks.append(tally.empty())

    def latest(self) -> T:
        """Return the sum of the blocks."""
        latest = self.total.empty()
        for block in self._blocks:
            latest.add(block)
        return latest

    def as_dict(self) -> dict[str, Any]:
        """Return the figures of the window and of the total, for JSON."""
        return {"window": self.latest().as_dict(), "total": self.total.as_dict()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all sums, for a checkpoint; those of the total are views."""
        total = {f"total.{name}": array for name, array in self.total.arrays.items()}
        names = self.total.arrays
        return total | {f"blocks.{name}": np.stack([block.arrays[name] for block in self._blocks]) for name in names}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]], empty: T, targets: int) -> Self:
        """Return the window with this state.

        Raises:
            ModelError: The state is of another tally, for example of other actions.
        """
        new = cls(empty, targets)
        for name, array in empty.arrays.items():
            if state[f"total.{name}"].shape != array.shape:
                raise ModelError(
                    f"The metrics of this checkpoint have {name} of shape {state[f'total.{name}'].shape} where "
                    f"{array.shape} is wanted; {empty.mismatch}, or train under another train.name."
                )
        names = tuple(empty.arrays)
        new.total = empty.with_arrays({name: np.array(state[f"total.{name}"]) for name in names})
        blocks = zip(*(state[f"blocks.{name}"] for name in names), strict=True)
        new._blocks = deque(
            (empty.with_arrays(dict(zip(names, map(np.array, arrays), strict=True))) for arrays in blocks), BLOCKS + 1
        )
        return new
