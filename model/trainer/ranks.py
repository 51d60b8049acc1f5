"""`hstu train` where a launcher such as torchrun has started several of it: rank 0 is the trainer, the others follow.

A launcher ends all ranks by the same signal. Rank 0 then finishes its step and writes a checkpoint, for which it needs
the rows of the others: so these wait for its word, or for the loss of its connection.
"""

import logging
import os
import signal
from typing import Final, Protocol

from model.distributed.ranks import Ranks, join_ranks
from model.learning.on_ranks import follow
from stream.transport import log_to_stderr

_log: Final = logging.getLogger("hstu.train")


class Run(Protocol):
    """A trainer that is to be run."""

    def __call__(self, *, ranks: Ranks) -> None:
        """Run it to its end."""


def on_every_rank(run: Run, device: str) -> None:
    """Run a trainer on rank 0, and follow it on the others.

    Args:
        run: The trainer.
        device: The setting train.device.

    Raises:
        ModelError: A rank is lost, or training fails.
    """
    with join_ranks(device) as ranks:
        if ranks.rank:
            log_to_stderr()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            _log.info("Rank %d of %d follows rank 0, as process %d.", ranks.rank, ranks.count, os.getpid())
            follow(ranks)
        else:
            run(ranks=ranks)
