"""Hot swap: follow an alias, and replace the answerer when the alias moves to another snapshot.

Where the alias is the trainer's own (latest) and the trainer writes deltas to its snapshots, these are followed as
well: from state to state, and into the next snapshot without loading it. A delta that is refused changes nothing; the
next snapshot is then loaded as a whole.

A request takes `answerer` once and uses it until it has answered, so a swap, which is one assignment, drops no request
and mixes no two snapshots. While a snapshot cannot be loaded, the last good one answers and `problem` says why.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from model.errors import ModelError
from model.serving.answerer import Answerer
from model.storage.aliases import LATEST, find, resolve
from model.storage.delta_log import State, chain_files, next_state
from model.storage.snapshot import Snapshot, load_snapshot

RETRY_S: Final = 30.0  # until a snapshot that failed to load is tried again, since loading is expensive
_log: Final = logging.getLogger("hstu.serve")


class Swapper:
    """Holds the answerer of the snapshot that an alias names.

    Args:
        directory: Folder of the snapshots.
        alias: The alias to follow; an id stays what it is.
        make: Returns the answerer of a snapshot; raises ModelError if it cannot answer.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        directory: Path,
        alias: str,
        make: Callable[[Snapshot], Answerer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answerer: Answerer | None = None
        self.problem: str | None = None
        self.brief: str | None = None  # the same for strangers: without paths
        self.waits = True  # for the first snapshot: nothing answers, and the alias names nothing
        self.loading: str | None = None  # a sentence, while the first snapshot is being loaded
        self.swaps = 0
        self.root = ""  # id of the snapshot that answers, with or without deltas
        self.alias = alias
        self._directory, self._make, self._clock = directory, make, clock
        self._state: State | None = None  # what deltas are applied to; None where there is no chain to follow
        self._deltas: frozenset[tuple[str, int]] | None = None  # to `root`, so far; None: there was no chain
        self._refused: str | None = None  # why the next delta was
        self._failed: tuple[str, float] = ("", 0.0)  # id, and when it may be tried again

    def poll(self) -> bool:
        """Look where the alias points and whether there are deltas, swap if so, and return whether it has."""
        try:
            path = resolve(self._directory, self.alias)
            moved = self._follow(path.name)
            if path.name != self.root:
                if path.name == self._failed[0] and self._clock() < self._failed[1]:
                    return moved
                self._failed = (path.name, self._clock() + RETRY_S)
                self._load(path)
                moved = True
        except ModelError as error:
            self._report(str(error))
            return False
        except Exception as error:
            problem = f"The snapshot of {self.alias} was not loaded: {error!r}; the log has the traceback."
            if problem != self.problem:
                _log.exception("snapshot of %s not loaded", self.alias)
            self._report(problem)
            return False
        self._report(self._refused)
        return moved

    def _load(self, path: Path) -> None:
        """Answer from the snapshot in a folder."""
        if self.answerer is None:
            new = "on a machine that is new to it, it compiles first, for minutes"
            self.loading = self.brief = f"Snapshot {path.name} is being loaded; {new}."
        snapshot = load_snapshot(path)
        self._put(self._make(snapshot), path.name)
        self._deltas = chain_files(self._directory, path.name) if self.alias == LATEST else None
        self._state, self._refused = State(snapshot, path.name) if self._deltas is not None else None, None

    def _follow(self, wanted: str) -> bool:
        """Apply the deltas that have come, and return whether there were any.

        Args:
            wanted: Id of the snapshot that the alias names.
        """
        if self._is_begun_anew():
            self.root = ""  # so that its snapshot is loaded again
            return False
        before = self._state
        if before is None or self._refused:
            return False
        state = before
        try:
            while (after := next_state(self._directory, state, wanted)) is not None:
                state = after
        except ModelError as error:
            self._refused = str(error)
        if state is before:
            return False
        self._state = None  # if no answerer can be made of it, the next snapshot is loaded
        if state.root != before.root:
            self._deltas = chain_files(self._directory, state.root)
        self._put(self._make(state.snapshot), state.root)
        self._state = state
        return True

    def _is_begun_anew(self) -> bool:
        """Return whether a trainer that was started again has begun the snapshot's chain once more."""
        if self.alias != LATEST or not self.root:
            return False
        deltas = chain_files(self._directory, self.root)
        before, self._deltas = self._deltas, self._deltas if deltas is None else deltas
        return deltas is not None and (before is None or not before <= deltas)

    def _put(self, answerer: Answerer, root: str) -> None:
        self.answerer, self.root = answerer, root
        self._failed = ("", 0.0)
        self.swaps += 1
        _log.info("%s is now snapshot %s", self.alias, answerer.snapshot_id)

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            kept = f" Answering goes on with {self.answerer.snapshot_id}." if self.answerer else ""
            _log.warning("%s%s", problem, kept)
        self.loading = None
        self.problem, self.waits = problem, self.answerer is None and self._names_nothing()
        if self.waits:
            self.brief = f"{self.alias} names no snapshot yet."
            return
        what = "A delta after the" if problem and problem == self._refused else "The"
        state = "was refused" if what != "The" else "is not loaded"
        self.brief = problem and f"{what} snapshot that {self.alias} names {state}; the server's log says why."

    def _names_nothing(self) -> bool:
        with suppress(ModelError):  # it names something that is no snapshot
            return find(self._directory, self.alias) is None
        return False
