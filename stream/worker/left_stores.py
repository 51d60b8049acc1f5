"""Stores that were left: of partitions which a worker of another host has by now, and has read further.

    here, nobody has it open, and the group has committed more than it has read ─► marked ─► deleted, LEFT_DAYS later

Users may have been forgotten since: nothing that is read by the other worker reaches this store. Until it is deleted, a
partition that comes back needs only what came after it.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.schema.topics import SourceTopic
from stream.store.layout import Meta, is_passed
from stream.store.rocksdb import partition_path, read_meta
from stream.store.standby import LEFT_DAYS, deleted, is_open_elsewhere, left_at, mark_left, put_aside, stands_by, unmark

LOOK_S: Final = 10.0
_log = logging.getLogger("hstu.worker")


class Partitions(Protocol):
    """The partitions of this worker."""

    opening: asyncio.Lock
    """Held while stores are being opened."""

    def holds(self, partition: int) -> bool:
        """Return whether this process has a partition's store open, or is opening or closing it."""


class LeftStores:
    """Marks and deletes what was left in a data directory.

    Args:
        settings: Shared by all workers.
        data_dir: Holds the stores.
        partitions: Those of this worker.
        committed: Returns the offsets that the workers' group has committed, by topic and partition; in a thread.
        now: The time.
    """

    def __init__(
        self,
        settings: StreamSettings,
        data_dir: Path,
        partitions: Partitions,
        committed: Callable[[], Mapping[tuple[str, int], int]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._partitions = settings, partitions
        self._committed, self._now = committed, now
        self._paths = {number: partition_path(data_dir, number) for number in range(settings.partitions)}
        self._warned = False

    async def look(self) -> None:
        """Mark what is found to have been left, and delete what was marked long ago; an error ends no worker."""
        try:
            async with self._partitions.opening:
                left = {number: left_at(path) for number, path in self._paths.items() if self._is_free(number)}
            for path in self._paths.values():
                if (aside := deleted(path)).exists():  # a process was killed at it
                    await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
            new = [number for number, at in left.items() if at is None]
            for number in await asyncio.to_thread(self._passed, new) if new else ():
                await self._mark(number)
            for number, at in left.items():
                if at and self._now() - at > timedelta(days=LEFT_DAYS):
                    await self._delete(number, at)
        except (HstuError, OSError) as error:
            if not self._warned:
                _log.warning("Stores of this host that other hosts may have taken over cannot be looked at: %s", error)
            self._warned = True

    def _is_free(self, number: int) -> bool:
        """Return whether nobody uses a store that is here; a mark that came too late is taken away."""
        path = self._paths[number]
        if self._partitions.holds(number) or not path.is_dir() or stands_by(path):
            return False
        if is_open_elsewhere(path):
            unmark(path)
            return False
        return True

    def _passed(self, numbers: list[int]) -> list[int]:
        """Return those whose owner has read more."""
        committed = self._committed()
        metas = {number: read_meta(self._paths[number]) for number in numbers}
        return [number for number, meta in metas.items() if meta and self._is_passed(number, meta, committed)]

    def _is_passed(self, number: int, meta: Meta, committed: Mapping[tuple[str, int], int]) -> bool:
        topics = [self._settings.topic_prefix + source.topic for source in SourceTopic]
        return is_passed(meta, [committed.get((topic, number), 0) for topic in topics])

    async def _mark(self, number: int) -> None:
        async with self._partitions.opening:
            if self._is_free(number):
                mark_left(self._paths[number])
                _log.info(
                    "The store of partition %d here was left: a worker of another host has read more. It is deleted in "
                    "%d days",
                    *(number, LEFT_DAYS),
                )

    async def _delete(self, number: int, at: datetime) -> None:
        async with self._partitions.opening:
            aside = put_aside(self._paths[number]) if self._is_free(number) else None
        if aside:
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
            _log.info(
                "The store of partition %d here, found left at %s, is deleted", number, f"{at:%Y-%m-%d %H:%M} UTC"
            )
