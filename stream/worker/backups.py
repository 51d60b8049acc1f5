"""A worker's stores and their backups: restored where a store is missing or older, written at an interval.

Both run in threads. While a store is being restored, or its backups cannot be read and there is no store here, its
partition waits, and the others go on. A backup that fails is named in the log, and the next one is tried.
"""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from stream.backup.manifest import Manifest
from stream.backup.partition_backups import PartitionBackups, Saved
from stream.backup.place import Place
from stream.backup.restore import describe, open_newest, restore
from stream.config import StreamSettings
from stream.errors import (
    BrokerError,
    DeletedUnreadError,
    HstuError,
    OtherLogError,
    StoreBusyError,
    StoreDamagedError,
    StoreError,
)
from stream.operations.store_logs import RefuseUnlike
from stream.store.refusals import renamed
from stream.store.rocksdb import RocksStore, open_store, partition_path
from stream.store.standby import unmark

_QUICK_S: Final = 0.5  # within which a store is usually found to be the newest
_AGAIN_S: Final = 5.0  # between two looks at backups that cannot be read
_log = logging.getLogger("hstu.worker")


class OpenPartition(Protocol):
    """A partition whose store is open."""

    store: RocksStore
    cutting: asyncio.Lock
    """Held while the store is being closed, or a checkpoint of it made."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def closed(self) -> bool:
        """Whether its store is closed."""


class WorkerStores:
    """Opens the stores of a data directory, and backs them up.

    Args:
        settings: Shared by all workers; without a backup_url, stores are opened as they are.
        data_dir: Holds the stores.
        unlike: Raises OtherLogError where Kafka's logs are not those that a partition's store has read.
        cluster: Id of that Kafka, empty where it does not say it.

    Raises:
        BackupError: There is no such place for backups.
    """

    def __init__(self, settings: StreamSettings, data_dir: Path, unlike: RefuseUnlike, cluster: str = "") -> None:
        self._settings, self._data_dir, self._unlike, self._cluster = settings, data_dir, unlike, cluster
        self._stopped = threading.Event()
        self._opening: dict[int, asyncio.Task[RocksStore]] = {}
        self._forgotten: set[asyncio.Task[RocksStore]] = set()  # of these that are no longer wanted
        self._backups: dict[int, PartitionBackups] = {}
        self._failed: dict[int, tuple[float, StoreBusyError]] = {}  # until when not to try again, and why
        self._damaged: dict[int, StoreDamagedError] = {}  # opened, and found damaged when it was read
        self._made_s: dict[int, float] = {}
        self._root = Place(settings.backup_url, self._stopped.is_set) if settings.backup_url else None

    async def open(self, number: int) -> RocksStore:
        """Open a partition's store, restored if need be; not to be called while `forget` is.

        Raises:
            StoreBusyError: Another process has it open, or it is being restored: ask again.
            StoreError: It cannot be used.
        """
        path = partition_path(self._data_dir, number)
        if self._root is None:
            unmark(path)
            return await asyncio.to_thread(open_store, path)
        until_s, why = self._failed.get(number, (0.0, None))
        if why and time.monotonic() < until_s:
            raise why
        new = number not in self._opening
        if new:
            self._opening[number] = asyncio.create_task(asyncio.to_thread(self._open_newest, number, path))
        task = self._opening[number]
        await asyncio.wait({task}, timeout=_QUICK_S if new else 0)
        if not task.done():
            raise StoreBusyError(f"The store {path} is being compared with its backups, or restored: {self._root.url}.")
        del self._opening[number]
        try:
            return task.result()
        except (StoreError, OSError):
            raise
        except Exception as error:
            if not isinstance(error, HstuError):
                _log.exception("The backups of partition %d cannot be read:", number)
            why = StoreBusyError(f"There is no whole store {path}, and none can be restored: {error}")
            self._failed[number] = time.monotonic() + _AGAIN_S, why
            raise why from None

    def replace(self, number: int, damage: StoreDamagedError) -> StoreBusyError:
        """Let the next `open` replace a store that was found damaged, and closed, by a backup; return what to raise.

        Raises:
            StoreDamagedError: Stores are not backed up.
        """
        if self._root is None:
            raise damage
        self._damaged[number] = damage
        return StoreBusyError(f"{damage} It is to be restored from {self._root.url}.")

    def _open_newest(self, number: int, path: Path) -> RocksStore:
        assert self._root is not None
        backups = self._backups_of(self._root, number)
        store = open_newest(path, backups, self._damaged.pop(number, None), self._compare)
        self._backups[number] = backups
        self._made_s[number] = time.monotonic() - _age_s(backups)
        return store

    def _compare(self, backup: Manifest, restored: bool) -> None:
        """Refuse backups of another log: one would take a store's place, or this one's would push them out."""
        try:
            self._unlike(backup.partition, backup, goes_on=restored)
        except DeletedUnreadError as error:
            raise StoreError(
                f"Partition {backup.partition} cannot go on from its newest backup in {self._settings.backup_url}: "
                f"{error.fact}. A store of another host may have read them: bring it here. Without one, set "
                "stream.backup_url to another place: a new store reads all that Kafka has."
            ) from None
        except OtherLogError as error:
            raise StoreError(
                f"The newest backup of partition {backup.partition} in {self._settings.backup_url} is of another log "
                f"than Kafka has: {error.fact}. Neither the backups nor a store here were changed. If the backups are "
                "another system's, or of a log that is gone, set stream.backup_url to another place; if Kafka is the "
                "wrong one, point to the right one."
            ) from None
        except BrokerError as error:
            raise StoreBusyError(f"The backups of partition {backup.partition} cannot be compared: {error}") from None

    def age_s(self, number: int) -> float | None:
        """Return how old a partition's newest backup is; None if it keeps no backups.

        One that has all records of the store is as good as new. Without any, it is the time since it was opened.
        """
        return time.monotonic() - self._made_s[number] if number in self._made_s else None

    async def back_up(self, partitions: Iterable[OpenPartition]) -> None:
        """Back these up, one after the other; what cannot be backed up is named in the log."""
        for partition in partitions:
            try:
                await self._back_up(partition)
            except Exception as error:  # a backup ends no worker
                self._warn(f"Partition {partition.number} is not backed up", error)

    async def _back_up(self, partition: OpenPartition) -> None:
        number = partition.number
        path = partition_path(self._data_dir, number)
        aside = path.resolve().with_name(f".p{number}.backup")
        async with partition.cutting:
            if partition.closed:
                return
            backups, at_s = self._backups[number], time.monotonic()
            await asyncio.to_thread(partition.store.checkpoint, aside)
        saved = await asyncio.to_thread(_save, backups, aside, path)
        self._made_s[number] = at_s
        if saved:
            _log.info("Partition %d: %s", number, describe(saved.manifest, saved.copied))

    async def follow(self, is_ours: Callable[[int], bool]) -> None:
        """Bring the stores of all partitions that are not ours up to their newest backups, as a warm standby.

        What is here already is not copied again, and a store that another worker of this host has open is left alone.
        """
        for number in range(self._settings.partitions):
            if self._root and not is_ours(number) and not self._stopped.is_set():
                path = partition_path(self._data_dir, number)
                try:
                    backups = self._backups_of(self._root, number)
                    if restored := await asyncio.to_thread(
                        partial(restore, path, backups, standby=True, compare=self._compare)
                    ):
                        _log.info("Partition %d stands by: %s", number, restored)
                except StoreBusyError:
                    continue
                except Exception as error:
                    self._warn(f"Partition {number} does not stand by", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Log why something failed, with a traceback unless it is an error that is expected of backups."""
        if not self._stopped.is_set():
            _log.warning("%s: %s", what, error, exc_info=not isinstance(error, (HstuError, OSError)))

    def _backups_of(self, root: Place, number: int) -> PartitionBackups:
        settings = self._settings
        prefix, count, keep = settings.topic_prefix, settings.partitions, settings.backup_keep
        return PartitionBackups(root, prefix, number, count, keep, self._cluster)

    def is_opening(self, number: int) -> bool:
        """Return whether a store is being opened, or one is that nobody wants any longer."""
        return number in self._opening or bool(self._forgotten)

    def _close(self, task: "asyncio.Task[RocksStore]") -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().close()
        self._forgotten.discard(task)

    def forget(self, numbers: Collection[int]) -> None:
        """Close the stores of these that are still being opened, as soon as they are."""
        for number in set(numbers) & self._opening.keys():
            task = self._opening.pop(number)
            self._forgotten.add(task)
            task.add_done_callback(self._close)

    async def close(self) -> None:
        """Break off what is being copied, and wait for its end."""
        self._stopped.set()
        opening = list(self._opening.values())
        self.forget(list(self._opening))
        if opening:
            await asyncio.wait(opening)


def _save(backups: PartitionBackups, checkpoint: Path, store: Path) -> Saved | None:
    """Make a backup; the checkpoint's links would keep files that the store has replaced."""
    try:
        return backups.save(checkpoint)
    except StoreError as error:
        raise renamed(error, checkpoint, store) from None
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _age_s(backups: PartitionBackups) -> float:
    """Return the seconds since the newest whole backup was made, 0 where there is none or they cannot be read."""
    try:
        newest = backups.newest_whole()
    except Exception:  # the next backup says why
        return 0.0
    return max(0.0, time.time() - newest.made_ms / 1000) if newest else 0.0
