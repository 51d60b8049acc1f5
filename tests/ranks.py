"""Ranks of a gloo group as threads of this process, for tests: real collectives without the price of processes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import torch
import torch.distributed as dist

from model.distributed.ranks import Ranks

T = TypeVar("T")


def on_ranks(count: int, work: Callable[[Ranks], T]) -> list[T]:
    """Run work on so many ranks at once, and return what each has returned.

    The group of a rank that raises is closed at once, as that of a process that ends; the others' when all are done.
    """
    store, all_done = dist.HashStore(), Barrier(count)

    def run(rank: int) -> T:
        ranks = Ranks(dist.ProcessGroupGloo(dist.PrefixStore(f"{count}", store), rank, count, timedelta(seconds=30)))
        try:
            ranks.sum(torch.zeros(1))  # all are connected
            found = work(ranks)
            all_done.wait(60)
        except BaseException:
            all_done.abort()
            ranks._group = None
            raise
        return found

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(run, rank) for rank in range(count)]
    errors = [error for future in futures if (error := future.exception())]
    first = next((error for error in errors if not isinstance(error, BrokenBarrierError)), None)
    if first:
        raise first
    return [future.result() for future in futures]
