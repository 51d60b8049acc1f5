"""Everything that gradients move: the dense parameters and the rows of both tables, with their moments.

V = items, U = distinct rows of one step, D = width. A forward pass gathers the rows it needs (`gather`) and gets its
step by one call (`descend`).
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.digest import Hasher, digest_arrays
from model.arrays.state import prefixed, under
from model.config import ModelSettings, TrainSettings
from model.data.item_features import Bags, ItemFeatures
from model.distributed.ranks import ALONE, Ranks
from model.errors import DivergedError, ModelError
from model.network.item_vectors import item_vectors
from model.network.recommender import Recommender
from model.optim.dense_adamw import DenseAdamW
from model.optim.embedding_table import EmbeddingTable, GatheredRows
from model.optim.gradient_sum import sum_gradients
from model.optim.unit_vectors import UnitVectors

ROW_STD: Final = 0.02  # of a new row, as in Meta's research code
_SumRows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_STREAMS: Final = ("items", "features", "negatives")  # random streams, each with a seed of its own


class Gathered(NamedTuple):
    """The rows of both tables that one forward pass uses."""

    items: GatheredRows
    features: GatheredRows
    vectors: Tensor  # [U, D] of the items: their rows, plus those of their features
    item_at: NDArray[np.int64]  # [n] where each item asked for is among the vectors; -1 for row -1
    feature_at: NDArray[np.int64]  # the same of the features asked for, in their leaf
    own: Tensor  # [U, D] the rows of the items alone
    bags: Bags | None  # [U] the values of their features, as places in the features' leaf; None: no item has any


class Parameters:
    """A recommender and its tables on one device, drawn from the seed.

    Args:
        model: Its shape.
        train: How it learns.
        item_features: Which rows of the feature table belong to an item's vector; read at every call.
        ranks: The processes that train together. The rows of items are shared out among them; all have all else.
    """

    def __init__(
        self,
        model: ModelSettings,
        train: TrainSettings,
        item_features: ItemFeatures | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._item_features, self.ranks = ItemFeatures() if item_features is None else item_features, ranks
        self.device = choose_device(train.device)
        self.recommender = Recommender(model, seed=train.seed).to(self.device)
        self.items, self.features = (
            EmbeddingTable(model.dim, seed=stream_seed(train.seed, name), std=ROW_STD, device=self.device, ranks=where)
            for name, where in (("items", ranks), ("features", ALONE))
        )
        self._reserve(train.max_items, model.dim)
        self._units = UnitVectors(self.items, self.features, self._item_features, ranks)
        self.dense = DenseAdamW(self.recommender, train.learning_rate)
        self._embedding_lr = train.learning_rate * train.embedding_rate_ratio
        self._shared = model.item_rows
        self._table_row_V = np.empty(0, np.int64)  # where items share rows

    def _reserve(self, rows: int, dim: int) -> None:
        try:
            self.items.reserve(rows)
        except (MemoryError, RuntimeError) as error:
            raise ModelError(
                f"train.max_items = {rows:,} cannot be reserved on {self.device}: so many rows of {dim} numbers with "
                f"both moments take {rows * (12 * dim + 8) / self.ranks.count / 1e9:,.0f} GB; set it lower, or take "
                "fewer numbers (model.dim) or more ranks (docs/scale.md)."
            ) from error

    def grow(self, item_keys: NDArray[np.uint64], features: int) -> None:
        """Have rows for these items, and at least `features` rows of features."""
        if self._shared and len(item_keys) > len(self._table_row_V):
            self._table_row_V = (item_keys % np.uint64(self._shared)).astype(np.int64)
        self.items.grow(self._shared or len(item_keys))
        self.features.grow(features)
        self._units.grow(len(item_keys), self._table_row_V if self._shared else None)

    def renew_items(self, rows: NDArray[np.int64]) -> None:
        """Set the rows of items to their first values: other items had them before."""
        self.items.renew(rows)
        self._units.moved(rows, rows[:0])

    def gather(self, items: NDArray[np.int64], features: NDArray[np.int64]) -> Gathered:
        """Copy rows out of the tables as leaves, by their rows in the vocabularies; -1 is no row."""
        if not self._item_features.any:
            item_rows, feature_rows = self.items.gather(self._table_rows(items)), self.features.gather(features)
            return Gathered(
                *(item_rows, feature_rows, item_rows.leaf, item_rows.at, feature_rows.at), own=item_rows.leaf, bags=None
            )
        rows_U, at_n = np.unique(items[items >= 0], return_inverse=True)
        item_at = np.full(len(items), -1)
        item_at[items >= 0] = at_n
        bags = self._item_features.bags(rows_U)
        item_rows = self.items.gather(self._table_rows(rows_U))
        feature_rows = self.features.gather(np.concatenate((features, bags.rows)))
        feature_at, bag_at = np.split(feature_rows.at, [len(features)])
        own_UD = item_rows.leaf.index_select(0, self.tensor(item_rows.at)) if self._shared else item_rows.leaf
        bags = bags._replace(rows=bag_at)
        vectors_UD = item_vectors(own_UD, feature_rows.leaf, bags)
        return Gathered(item_rows, feature_rows, vectors_UD, item_at, feature_at, own_UD, bags)

    def _table_rows(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the item table, by rows of the vocabulary."""
        if self._shared and len(self._table_row_V):
            return np.where(items >= 0, self._table_row_V[items], -1)
        return items

    def descend(self, loss: Tensor | None, gathered: Gathered, ratio: float = 1.0) -> float:
        """Take one AdamW step against the gradient of a loss of this pass, and return the loss.

        Args:
            loss: Of several ranks: this rank's part of it. None: there is nothing to train on; NaN is returned where
                that is so on all ranks.
            gathered: The rows of the pass.
            ratio: Multiple of the learning rates.

        Raises:
            DivergedError: The loss or its gradient is not finite; nothing has moved.
        """
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        leaves = [gathered.items.leaf, gathered.features.leaf]
        totals = sum_gradients(self.ranks, loss, [*self.dense.parameters.values()], leaves)
        value, having, gradient = map(float, totals)
        if not having:
            return math.nan
        self._refuse_divergence(value, gradient)
        self.dense.step(ratio)
        lr = self._embedding_lr * ratio
        items = self._step_rows(self.items, gathered.items, self.ranks.sum_at_owners, lr)
        features = self._step_rows(self.features, gathered.features, self.ranks.sum_rows, lr)
        self._units.moved(items, features)
        return value

    def _step_rows(self, table: EmbeddingTable, rows: GatheredRows, summed: _SumRows, lr: float) -> NDArray[np.int64]:
        """Take a step on the rows that lie here of those that any rank has a gradient of, and return them."""
        if rows.leaf.grad is None:
            return rows.distinct[:0]
        rows_U, grad_UD = summed(rows.rows, rows.leaf.grad)
        table.step(rows_U, grad_UD, lr)
        return rows.distinct if self.ranks.count == 1 else rows_U.cpu().numpy()

    def _refuse_divergence(self, loss: float, gradient: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            raise DivergedError(
                f"training has diverged: the loss is {loss}, and its gradient is not finite; lower train.learning_rate "
                f"(now {self.dense.lr}) or train.embedding_rate_ratio."
            )

    def unit_items(self, items: int) -> Tensor:
        """Return the unit vectors of those of the first items that lie here, a view, [items, D]."""
        return self._units.first(items)

    @torch.no_grad()
    def vectors(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of these items as they are now, on the CPU, [n, D]; all ranks get them."""
        found = self.gather(items, items[:0])
        vectors_UD: NDArray[np.float32] = found.vectors.detach().cpu().numpy()
        return vectors_UD[found.item_at]

    def item_weights(self) -> Tensor:
        """Return the row of every item, [V, D]; of several ranks, rank 0 alone gets them."""
        whole_RD = self.items.whole()
        return whole_RD.index_select(0, self.tensor(self._table_row_V)) if self._shared else whole_RD

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.as_tensor(array, device=self.device)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all arrays; those of the tables are views."""
        return {
            **prefixed("dense.", self.dense.state()),
            **prefixed("item_table.", _numpy(self.items.state())),
            **prefixed("feature_table.", _numpy(self.features.state())),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace all values by those of a state."""
        self.dense.load_state(under("dense.", state))
        self.items.load_state(_torch(under("item_table.", state)))
        self.features.load_state(_torch(under("feature_table.", state)))
        self._units.renew_all()

    def digest_update(self, hasher: Hasher) -> None:
        """Feed everything to a hasher."""
        digest_arrays(hasher, self.dense.state())
        self.items.digest_update(hasher)
        self.features.digest_update(hasher)


def stream_seed(seed: int, stream: str) -> int:
    """Return the seed of one random stream, a u64."""
    return (len(_STREAMS) * seed + _STREAMS.index(stream)) % 2**64


def choose_device(name: str) -> torch.device:
    """Return the device of a setting; auto is a GPU where there is one.

    Raises:
        ModelError: The setting is cuda, and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device is cuda, but PyTorch finds no CUDA device; set it to auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_deterministic(threads: int) -> None:
    """Make PyTorch compute the same bits every time, in this whole process.

    On a GPU an operation that cannot do so warns instead of failing, so a run there is as repeatable as CUDA is.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS; read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # expensive debugging aid: do not fill uninitialized memory with NaN
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)


def _numpy(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _torch(state: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
