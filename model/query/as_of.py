"""Questions as of an earlier event time: the snapshot and the tokens that there were then, together."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.serving.sequences import Sequences
from model.storage.snapshot import Manifest, list_snapshots
from model.terminal import when

_ALL = 2**31 - 1  # more tokens than are kept of any user


def snapshot_as_of(directory: Path, ts_ms: int) -> Path:
    """Return the newest snapshot that had learned nothing later than a time.

    Raises:
        ModelError: There is none; the sentence names the oldest that is kept.
    """
    manifests = list_snapshots(directory)
    before = [manifest for manifest in manifests if learned_ms(manifest) <= ts_ms]
    if before:
        return directory / before[-1].id
    oldest = f"the oldest is of {when(learned_ms(manifests[0]))}" if manifests else "there is none at all"
    raise ModelError(
        f"No snapshot in {directory} is as old as {when(ts_ms)}; {oldest}. "
        "The setting train.keep_snapshots says how many are kept."
    )


def learned_ms(manifest: Manifest) -> int:
    """Return the time of the last example learned; the watermark of a log that has ended is the end of time."""
    return manifest.event_ms or manifest.watermark_ms


class Earlier:
    """The sequences as they were at a time: later tokens are left out.

    Args:
        sequences: The sequences as they are.
        ts_ms: The last event time that is seen.
    """

    def __init__(self, sequences: Sequences, ts_ms: int) -> None:
        self._sequences, self._ts_ms = sequences, ts_ms

    @property
    def problem(self) -> str:
        """What keeps some of them from being read."""
        return self._sequences.problem

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Return the user's last tokens of then, None where there were none."""
        tokens = self._sequences.tokens(user, _ALL)
        if tokens is None:
            return None
        until = int(np.searchsorted(tokens["ts_ms"], self._ts_ms, side="right"))
        return tokens[max(0, until - last) : until] if until else None
