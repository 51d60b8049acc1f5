"""Tables of embedding rows that grow with a vocabulary, and the optimizer of these rows.

R = rows in use, C = capacity in rows, D = width, n = rows asked for, U = the distinct ones among them. A step reads and
writes the rows it is given and no others, so its cost does not depend on R. The optimizer is a lazy AdamW: every row
has its own step count for the bias correction, and a row that no step touches keeps its moments and weights. The first
values of a row are a function of (seed, its number, D), never of when, or how fast, the table grew, nor of how many
ranks share the rows out among them (model/distributed/ranks.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.digest import Hasher, digest_arrays
from model.arrays.growable import have_room
from model.arrays.growable_tensors import lengthen_tensors
from model.distributed.ranks import ALONE, Ranks
from model.errors import ModelError
from model.optim.adamw import BETAS, EPS

BLOCK: Final = 1024  # rows drawn from one random stream; the least capacity


@dataclass(frozen=True, slots=True, eq=False)
class GatheredRows:
    """Distinct rows of a table, copied out as a leaf of the autograd graph."""

    rows: Tensor  # [U] ascending
    distinct: NDArray[np.int64]  # the same on the CPU
    leaf: Tensor  # [U, D]
    at: NDArray[np.int64]  # [n] where each row asked for is in the leaf; -1 for row -1


class EmbeddingTable:
    """Rows [R, D], each with both moments and a step count.

    Args:
        dim: The width D.
        seed: Seed of the first values, which are normal; each table needs its own.
        std: Standard deviation of the first values.
        device: Where the rows live.
        dtype: Type of weights and moments, float32 or float64.
        ranks: The processes that share the rows out among them; each has its own in the arrays here.
    """

    def __init__(
        self,
        dim: int,
        *,
        seed: int,
        std: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        ranks: Ranks = ALONE,
    ) -> None:
        self._dim, self._seed, self._std, self._ranks = dim, seed, std, ranks
        self._len = self._capacity = 0
        self._used, self._place = (
            np.empty(0, np.bool_),
            np.empty(0, np.int64),
        )  # of `gather`
        self.weight = torch.empty(0, dim, device=device, dtype=dtype)  # [C, D]
        self._mean = torch.empty_like(self.weight)  # [C, D] first moment of the gradients
        self._square = torch.empty_like(self.weight)  # [C, D] second moment
        self._steps = torch.empty(0, device=device, dtype=torch.int64)  # [C]

    def __len__(self) -> int:
        return self._len

    @property
    def rows(self) -> Tensor:
        """Weights of the rows in use that lie here, a view, [R, D]."""
        return self.weight[: self._ranks.own(self._len)]

    def whole(self) -> Tensor:
        """Return the weights of all rows in use, [R, D]; of several ranks, rank 0 alone gets them."""
        return self._ranks.to_first(self.rows, self._len)

    def grow(self, rows: int) -> None:
        """Have at least `rows` rows in use, the new ones with their first values."""
        if rows > self._capacity:
            self.reserve(max(rows, 2 * self._capacity))
        for block in range(-(-self._len // BLOCK), -(-rows // BLOCK)):
            own = self._ranks.mine(np.arange(block * BLOCK, (block + 1) * BLOCK))
            start = self._ranks.own(block * BLOCK)
            first_values = torch.from_numpy(self._draw(block)[own - block * BLOCK])
            self.weight[start : start + len(own)] = first_values.to(self.weight)
            for part in (self._mean, self._square, self._steps):
                part[start : start + len(own)] = 0
        self._len = max(self._len, rows)

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, so that growing up to them copies nothing.

        A CPU gives the memory of a row when it comes into use, as the system does with pages that nothing has written.

        Raises:
            MemoryError: There is not so much; the rows are what they were.
            RuntimeError: The same on another device than a CPU.
        """
        capacity = max(self._capacity, -(-rows // BLOCK) * BLOCK)
        lengthen_tensors(vars(self), self._ranks.own(capacity), "weight", "_mean", "_square", "_steps")
        self._capacity = capacity

    def _draw(self, block: int) -> NDArray[np.float32]:
        key = np.array([self._seed % 2**64, block], np.uint64)
        stream = Generator(Philox(key=key))
        return stream.standard_normal((BLOCK, self._dim), np.float32) * np.float32(self._std)

    def renew(self, rows: NDArray[np.int64]) -> None:
        """Set rows to their first values, with no moments and no steps, as if they had never been used."""
        rows = self._ranks.mine(rows)
        for block in np.unique(rows // BLOCK).tolist():
            own = rows[rows // BLOCK == block]
            self.weight[self._places(own)] = torch.from_numpy(self._draw(block)[own - block * BLOCK]).to(self.weight)
        at = self._places(rows)
        for part in (self._mean, self._square, self._steps):
            part[at] = 0

    def _places(self, rows: NDArray[np.int64]) -> Tensor:
        """Return where rows that lie here are in the arrays."""
        return torch.as_tensor(rows // self._ranks.count, device=self.weight.device)

    def gather(self, rows_n: NDArray[np.int64]) -> GatheredRows:
        """Copy the distinct ones of these rows out of the table; row -1 is none."""
        have_room(vars(self), len(self) + 1, "_used", "_place")  # the last one stands for -1
        used, place = self._used, self._place
        used[rows_n] = True
        distinct = np.flatnonzero(used[: len(self)])
        used[rows_n] = False
        place[distinct], place[-1] = np.arange(len(distinct)), -1
        rows_U = torch.as_tensor(distinct, device=self.weight.device)
        leaf_UD = self._ranks.fetch(rows_U, self.weight).requires_grad_()
        return GatheredRows(rows_U, distinct, leaf_UD, place[rows_n])

    @torch.no_grad()
    def step(self, rows_U: Tensor, grad_UD: Tensor, lr: float) -> None:
        """Take one AdamW step on these rows, which must lie here and be distinct (else a gradient is lost)."""
        beta1, beta2 = BETAS
        if self._ranks.count > 1:
            rows_U = rows_U // self._ranks.count
        steps_U = self._steps.index_select(0, rows_U) + 1
        mean_UD = self._mean.index_select(0, rows_U).lerp_(grad_UD, 1 - beta1)
        square_UD = self._square.index_select(0, rows_U).mul_(beta2).addcmul_(grad_UD, grad_UD, value=1 - beta2)
        exponent_U1 = steps_U.double()[:, None]
        scale1_U1 = (lr / (1 - beta1**exponent_U1)).to(grad_UD.dtype)
        scale2_U1 = (1 - beta2**exponent_U1).rsqrt().to(grad_UD.dtype)
        weight_UD = self.weight.index_select(0, rows_U)
        weight_UD -= scale1_U1 * mean_UD / (square_UD.sqrt() * scale2_U1 + EPS)
        self.weight.index_copy_(0, rows_U, weight_UD)
        self._mean.index_copy_(0, rows_U, mean_UD)
        self._square.index_copy_(0, rows_U, square_UD)
        self._steps.index_copy_(0, rows_U, steps_U)

    def state(self) -> dict[str, Tensor]:
        """Return the rows in use with moments and step counts: write or copy them before the next step.

        They are views, unless the rows lie on several ranks: then they are copies on rank 0, and empty on the others.
        """
        return {name: self._ranks.to_first(part, self._len) for name, part in self._own().items()}

    def _own(self) -> dict[str, Tensor]:
        parts = {"weight": self.weight, "mean": self._mean, "square": self._square, "steps": self._steps}
        return {name: part[: self._ranks.own(self._len)] for name, part in parts.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Replace all rows by those of a state (rank 0's counts), in the memory that there is.

        Later rows come from this table's own seed. The state must not be made of views of this table.

        Raises:
            ModelError: The state has another width.
        """
        rows, dim = state["weight"].shape
        if dim != self._dim:
            raise ModelError(
                f"A table of width {self._dim} cannot take a state of width {dim}; set model.dim to {dim}, or start "
                "under another train.name."
            )
        self._len = 0
        self.grow(rows := self._ranks.same(rows))
        for name, part in self._own().items():
            part.copy_(self._ranks.from_first(state[name], rows))

    def digest_update(self, hasher: Hasher) -> None:
        """Feed the state to a hasher; spare capacity does not count."""
        digest_arrays(hasher, {name: part.cpu().numpy() for name, part in self.state().items()})
