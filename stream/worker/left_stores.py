"""Stores that were left: of partitions which a worker of another host has by now, and has read further.

    here, nobody has it open, and the group has committed more than it has read ─► marked

Users may have been forgotten since: nothing that is read by the other worker reaches this store. It is not deleted, for
nobody here can know that the other host's store is not lost in the next moment; a partition that comes back needs only
what came after it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.schema.topics import SourceTopic
from stream.store.layout import is_passed
from stream.store.rocksdb import is_there, partition_path, read_meta
from stream.store.standby import is_open_elsewhere, left_at, mark_left, stands_by, unmark

LOOK_S: Final = 10.0
_log = logging.getLogger("hstu.worker")


class Partitions(Protocol):
    """The partitions of this worker."""

    opening: asyncio.Lock
    """Held while stores are being opened."""

    def holds(self, partition: int) -> bool:
        """Return whether this process has a partition's store open, or is opening or closing it."""


class LeftStores:
    """Marks what was left in a data directory.

    Args:
        settings: Shared by all workers.
        data_dir: Holds the stores.
        partitions: Those of this worker.
        committed: Returns the offsets that the workers' group has committed, by topic and partition; in a thread.
    """

    def __init__(
        self,
        settings: StreamSettings,
        data_dir: Path,
        partitions: Partitions,
        committed: Callable[[], Mapping[tuple[str, int], int]],
    ) -> None:
        self._settings, self._partitions, self._committed = settings, partitions, committed
        self._paths = {number: partition_path(data_dir, number) for number in range(settings.partitions)}
        self._warned: set[str] = set()

    async def look(self) -> None:
        """Mark what is found to have been left; an error ends no worker, and keeps no other store from its mark."""
        async with self._partitions.opening:
            new = [number for number in self._paths if self._is_new(number)]
        if not new:
            return
        try:
            committed = await asyncio.to_thread(self._committed)
        except (HstuError, OSError) as error:
            self._warn(f"Whether other hosts have taken over stores of this one cannot be known: {error}")
            return
        for number in new:
            try:
                if await asyncio.to_thread(self._is_passed, number, committed):
                    await self._mark(number)
            except (HstuError, OSError) as error:
                self._warn(f"Whether another host has taken over partition {number} cannot be known: {error}")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            _log.warning("%s", sentence)
            self._warned.add(sentence)

    def _is_new(self, number: int) -> bool:
        """Return whether a store is here that nobody uses and that has no mark; a mark that came too late goes."""
        path = self._paths[number]
        try:
            if self._partitions.holds(number) or not is_there(path) or self._follows(path):
                return False
            if is_open_elsewhere(path):
                unmark(path)
                return False
            return left_at(path) is None
        except (HstuError, OSError) as error:
            self._warn(f"Whether another host has taken over partition {number} cannot be known: {error}")
            return False

    def _follows(self, path: Path) -> bool:
        """Return whether a store stands by for another one, whose backups it follows."""
        return stands_by(path) and self._settings.standby

    def _is_passed(self, number: int, committed: Mapping[tuple[str, int], int]) -> bool:
        meta = read_meta(self._paths[number])
        topics = [self._settings.topic_prefix + source.topic for source in SourceTopic]
        return is_passed(meta, [committed.get((topic, number), 0) for topic in topics])

    async def _mark(self, number: int) -> None:
        async with self._partitions.opening:
            if self._is_new(number):
                mark_left(self._paths[number])
                _log.info(
                    "The store of partition %d here was left: a worker of another host has read more. Users who are "
                    "forgotten stay in it: delete it once it is not wanted any more (docs/operations.md)",
                    number,
                )
