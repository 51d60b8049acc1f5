"""The processes that train one model together: ranks of a torch.distributed group, and what they exchange.

N = ranks, U = rows of one rank, D = width, S = rows of one rank at most. Row r of a sharded table lies on rank r mod N,
at place r div N there. All ranks call the same methods in the same order. Sums are taken in the order of the ranks, or
by the one algorithm of the backend, so that the same number of ranks gives the same bits. With one rank every method
returns what it was given.
"""

import os
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from model.errors import ModelError

_TIMEOUT: Final = timedelta(minutes=30)  # after which a rank that says nothing counts as lost
_BEAT_S: Final = 60.0  # silence of rank 0 after which it says that it is there
_BEAT: Final = "beat"


class Ranks:
    """This process among those that train together.

    Args:
        group: Their group; None: there is this process alone.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group: Any = group
        self.rank, self.count = (group.rank(), group.size()) if group else (0, 1)
        self._sent_s = time.monotonic()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the backend into a sentence."""
        try:
            yield
        except RuntimeError as error:
            raise ModelError(
                f"Rank {self.rank} of {self.count} has lost another one ({str(error).splitlines()[0]}), so all stop. "
                "Start them again, as many as you like: they go on from the newest checkpoint."
            ) from error

    def own(self, rows: int) -> int:
        """Return how many of the first `rows` rows lie here."""
        return max(0, -(-(rows - self.rank) // self.count))

    def mine(self, rows_n: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those rows of some that lie here."""
        return rows_n[rows_n % self.count == self.rank] if self.count > 1 else rows_n

    def sum(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over the ranks, and return it."""
        if self.count > 1:
            with self._told():
                self._group.allreduce([tensor]).wait()
        return tensor

    def exchange(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Send a part to each rank, and return what each has sent here; only the length of parts differs."""
        if self.count == 1:
            return list(parts)
        sent = torch.tensor([len(part) for part in parts], device=parts[0].device)
        received = torch.empty_like(sent)
        with self._told():
            self._group.alltoall_base(received, sent, [], []).wait()
            sizes = received.tolist()
            found = parts[0].new_empty(sum(sizes), *parts[0].shape[1:])
            self._group.alltoall_base(found, torch.cat(list(parts)), sizes, sent.tolist()).wait()
        return list(torch.split(found, sizes))

    def join(self, part: Tensor) -> Tensor:
        """Return the parts of all ranks, one after the other."""
        return torch.cat(self.exchange([part] * self.count)) if self.count > 1 else part

    def fetch(self, rows_U: Tensor, own_SD: Tensor) -> Tensor:
        """Return rows of a sharded table, [U, D].

        Args:
            rows_U: Which.
            own_SD: Those that lie here.
        """
        if self.count == 1:
            return own_SD.index_select(0, rows_U)
        places = self._by_owner(rows_U)
        asked = self.exchange([rows_U[at] for at in places])
        answers = self.exchange([own_SD.index_select(0, rows // self.count) for rows in asked])
        found = own_SD.new_empty(len(rows_U), *own_SD.shape[1:])
        found[torch.cat(places)] = torch.cat(answers)
        return found

    def sum_at_owners(self, rows_U: Tensor, grad_UD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that lie here of those that any rank has, ascending, and the sums of their gradients."""
        if self.count == 1:
            return rows_U, grad_UD
        places = self._by_owner(rows_U)
        rows = self.exchange([rows_U[at] for at in places])
        return _summed(rows, self.exchange([grad_UD[at] for at in places]))

    def sum_rows(self, rows_U: Tensor, grad_UD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that any rank has, ascending, and the sums of their gradients: the same on all ranks."""
        if self.count == 1:
            return rows_U, grad_UD
        return _summed(self.exchange([rows_U] * self.count), self.exchange([grad_UD] * self.count))

    def _by_owner(self, rows_U: Tensor) -> list[Tensor]:
        owner_U = rows_U % self.count
        return [torch.nonzero(owner_U == rank).squeeze(1) for rank in range(self.count)]

    def columns(self, own_PS: Tensor, rows: int) -> Tensor:
        """Return a column for each of the first rows, [P, rows], from one for each of those that lie here."""
        if self.count == 1 or not len(own_PS) or not rows:
            return own_PS if self.count == 1 else own_PS.new_empty(len(own_PS), rows)
        most = -(-rows // self.count)
        padded = torch.nn.functional.pad(own_PS, (0, most - own_PS.shape[1])).contiguous()
        found = padded.new_empty(self.count * len(padded), most)
        with self._told():
            self._group._allgather_base(found, padded).wait()
        return found.view(self.count, -1, most).permute(1, 2, 0).flatten(1)[:, :rows].contiguous()

    def to_first(self, own: Tensor, rows: int) -> Tensor:
        """Return a whole table on rank 0, and an empty one on the others, from the rows that lie here."""
        if self.count == 1:
            return own
        parts = self.exchange([own, *[own[:0]] * (self.count - 1)])
        whole = own.new_empty(rows if not self.rank else 0, *own.shape[1:])
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole

    def from_first(self, whole: Tensor, rows: int) -> Tensor:
        """Return the rows of a table that lie here, from the whole table on rank 0."""
        if self.count == 1:
            return whole
        parts = [whole[rank :: self.count] if not self.rank else whole[:0] for rank in range(self.count)]
        own = self.exchange(parts)[0]
        assert len(own) == self.own(rows)
        return own

    def send(self, message: Any) -> None:
        """Send a message from rank 0 to the others, pickled."""
        if self.count > 1:
            data = torch.frombuffer(bytearray(pickle.dumps(message)), dtype=torch.uint8)
            with self._told():
                self._group.broadcast(torch.tensor([len(data)]), 0).wait()
                self._group.broadcast(data, 0).wait()
            self._sent_s = time.monotonic()

    def receive(self) -> Any:
        """Return the next message of rank 0."""
        message = _BEAT
        while message == _BEAT:
            size = torch.zeros(1, dtype=torch.int64)
            with self._told():
                self._group.broadcast(size, 0).wait()
                data = torch.empty(int(size), dtype=torch.uint8)
                self._group.broadcast(data, 0).wait()
            message = pickle.loads(data.numpy().tobytes())
        return message

    def beat(self) -> None:
        """Send a sign of life to the others if nothing was sent for long: a stream may rest for a night."""
        if time.monotonic() - self._sent_s > _BEAT_S:
            self.send(_BEAT)

    def same(self, number: int) -> int:
        """Return the number that rank 0 has."""
        return int(self.sum(torch.tensor([0 if self.rank else number])))

    def end(self) -> None:
        """Send None from rank 0, the last message, and wait for all ranks to get here."""
        if not self.rank:
            self.send(None)
        self.sum(torch.zeros(1))


ALONE: Final = Ranks()


def _summed(rows: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Add the gradients of each rank's distinct rows up, in the order of the ranks."""
    all_rows = torch.unique(torch.cat(list(rows)))
    total = grads[0].new_zeros(len(all_rows), *grads[0].shape[1:])
    for own, grad in zip(rows, grads, strict=True):
        at = torch.searchsorted(all_rows, own)
        total.index_copy_(0, at, total.index_select(0, at) + grad)
    return all_rows, total


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other ranks if a launcher such as torchrun started this process as one of several.

    Args:
        device: The setting train.device: gloo on CPUs, NCCL on GPUs, of which each rank takes the one of its number.

    Raises:
        ModelError: The others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"Rank {os.environ.get('RANK')} cannot join the others: {error}; start all by torchrun (docs/ranks.md)."
        ) from error
    try:
        yield Ranks(dist.group.WORLD)
    finally:
        dist.destroy_process_group()
