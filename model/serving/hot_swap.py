"""Hot swap: follow an alias, and replace the answerer when the alias moves to another snapshot.

A request takes `answerer` once and uses it until it has answered, so a swap, which is one assignment, drops no request
and mixes no two snapshots. While a snapshot cannot be loaded, the last good one answers and `problem` says why.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from model.errors import ModelError
from model.serving.answerer import Answerer
from model.storage.aliases import resolve

RETRY_S: Final = 30.0  # until a snapshot that failed to load is tried again, since loading is expensive
_log: Final = logging.getLogger("hstu.serve")


class Swapper:
    """Holds the answerer of the snapshot that an alias names.

    Args:
        directory: Folder of the snapshots.
        alias: The alias to follow; an id stays what it is.
        load: Returns the answerer of a snapshot's folder; raises ModelError if it cannot.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        directory: Path,
        alias: str,
        load: Callable[[Path], Answerer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answerer: Answerer | None = None
        self.problem: str | None = None
        self.brief: str | None = None  # the same for strangers: without paths
        self.swaps = 0
        self.alias = alias
        self._directory, self._load, self._clock = directory, load, clock
        self._failed: tuple[str, float] = ("", 0.0)  # id, and when it may be tried again

    def poll(self) -> bool:
        """Look where the alias points, swap if it has moved, and return whether it has."""
        try:
            path = resolve(self._directory, self.alias)
            if self.answerer is not None and path.name == self.answerer.snapshot_id:
                self._report(None)
                return False
            if path.name == self._failed[0] and self._clock() < self._failed[1]:
                return False
            self._failed = (path.name, self._clock() + RETRY_S)
            self.answerer = self._load(path)
        except ModelError as error:
            self._report(str(error))
            return False
        except Exception as error:
            problem = f"The snapshot of {self.alias} was not loaded: {error!r}; the log has the traceback."
            if problem != self.problem:
                _log.exception("snapshot of %s not loaded", self.alias)
            self._report(problem)
            return False
        self._failed = ("", 0.0)
        self.swaps += 1
        self._report(None)
        _log.info("%s is now snapshot %s", self.alias, path.name)
        return True

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            kept = f" Answering goes on with {self.answerer.snapshot_id}." if self.answerer else ""
            _log.warning("%s%s", problem, kept)
        self.problem = problem
        self.brief = problem and f"The snapshot that {self.alias} names is not loaded; the server's log says why."
