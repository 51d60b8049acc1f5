"""Everything of a learner that gradients move: the dense parameters and the rows of both tables, with their moments."""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.digest import Hasher, digest_arrays
from model.arrays.state import prefixed, under
from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.network.recommender import Recommender
from model.optim.dense_adamw import DenseOptimizer
from model.optim.embedding_table import EmbeddingTable
from model.optim.unit_rows import Directions

ROW_STD: Final = 0.02  # of a new row, as in Meta's research code
_STREAMS: Final = ("items", "features", "negatives")  # of chance, each with numbers of its own from one seed


class Parameters:
    """A recommender and its tables on one device, drawn from the seed."""

    def __init__(self, model: ModelSettings, train: TrainSettings) -> None:
        self.device = choose_device(train.device)
        self.lr = train.learning_rate
        self.recommender = Recommender(model, seed=train.seed).to(self.device)
        self.dense = DenseOptimizer(self.recommender, self.lr)
        self.items = EmbeddingTable(model.dim, seed=stream_seed(train.seed, "items"), std=ROW_STD, device=self.device)
        self.features = EmbeddingTable(
            model.dim, seed=stream_seed(train.seed, "features"), std=ROW_STD, device=self.device
        )
        self.directions = Directions(self.items)
        self._shared = model.item_rows
        self._slot_V = np.empty(0, np.int64)  # table row of each item, where items share them

    def grow(self, item_keys: NDArray[np.uint64], features: int) -> None:
        """Have rows for these items, and so many of features."""
        if self._shared and len(item_keys) > len(self._slot_V):
            self._slot_V = (item_keys % np.uint64(self._shared)).astype(np.int64)
        self.items.grow(self._shared or len(item_keys))
        self.features.grow(features)

    def slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the row of the item table for each row of the vocabulary; -1 stays -1."""
        return np.where(rows >= 0, self._slot_V[rows], -1) if self._shared and len(self._slot_V) else rows

    def item_directions(self, items: int) -> Tensor:
        """Give the unit vectors of the first items, [items, D]; a view where each has its own row."""
        if not self._shared:
            return self.directions.first(items)
        return self.directions.first(len(self.items)).index_select(0, self.tensor(self._slot_V[:items]))

    def item_weights(self) -> Tensor:
        """Give the row of every item, [V, D]."""
        return self.items.rows.index_select(0, self.tensor(self._slot_V)) if self._shared else self.items.rows

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Give an array as a tensor on the device."""
        return torch.as_tensor(array, device=self.device)

    def state(self) -> dict[str, NDArray[Any]]:
        """Give all arrays; those of the tables are views."""
        return {
            **prefixed("dense.", self.dense.state()),
            **prefixed("item_table.", _numpy(self.items.state())),
            **prefixed("feature_table.", _numpy(self.features.state())),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become the weights that gave this state."""
        self.dense.load_state(under("dense.", state))
        self.items.load_state(_torch(under("item_table.", state)))
        self.features.load_state(_torch(under("feature_table.", state)))
        self.directions = Directions(self.items)

    def digest_update(self, hasher: Hasher) -> None:
        """Feed everything to a hasher."""
        digest_arrays(hasher, self.dense.state())
        self.items.digest_update(hasher)
        self.features.digest_update(hasher)


def stream_seed(seed: int, stream: str) -> int:
    """Give the seed of one stream of chance, a u64."""
    return (len(_STREAMS) * seed + _STREAMS.index(stream)) % 2**64


def choose_device(name: str) -> torch.device:
    """Give the device of a setting; auto is a GPU where there is one.

    Raises:
        ModelError: cuda is wanted and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device is cuda, but PyTorch finds no CUDA device; set it to auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_deterministic(threads: int) -> None:
    """Let PyTorch give the same bits every time, in this whole process.

    On a GPU an operation that cannot do so warns instead of failing: there a run repeats itself as far as CUDA does.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a search for bugs, dear
    torch.set_num_threads(threads)


def _numpy(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _torch(state: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
