"""`hstu topics rescale`: new topics and new stores of more partitions, in which every user goes on.

    1. look      the old stores are whole, closed to others, at the end of the log and at one time; say what it costs
    2. divide    the old stores into <data_dir>/rescaling/store, beside the copy of `items` into the new topics
    3. look      nothing has come into the old log meanwhile
    4. begin     the first records of the new log; the new stores have read them
    5. swap      store → store-of-N-partitions, rescaling/store → store

Killed before 5, it begins with 1 again: stores are divided anew, and records that are there are not written twice.
Killed within 5, it does what is left of 5. The old topics and stores are only read.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from stream.config import StreamSettings
from stream.errors import HstuError, StoreError
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import create_topics, topic_name
from stream.rescale.barrier import NewLog, meta_of, refuse_different_times, refuse_unread
from stream.rescale.catalogue import Copy, copy_catalogue, read_catalogue, refuse_other_catalogue
from stream.rescale.division import Census, Division, count, new_metas
from stream.schema.topics import EVENTS, ITEMS
from stream.store import layout
from stream.store.layout import Meta
from stream.store.rocksdb import RocksStore, is_there, open_secondary, open_store, partition_path, read_meta
from stream.store.scratch import make_scratch, remove_scratch

_SAMPLE: Final = 1000  # users that are divided to see how long it takes
_ROOM: Final = 1.1  # of the old stores' bytes has to be free on the disk


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rescale will do."""

    before: int
    after: int
    users: int
    waiting: int
    items: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        """Return it as a sentence."""
        return (
            f"From {self.before} to {self.after} partitions: {self.users:,} users, {self.waiting:,} events that wait, "
            f"and {self.items:,} records of items; about {self.bytes / 1e6:,.1f} MB are written to the disk, in about "
            f"{self.seconds:,.0f} s by one core."
        )


class Rescale:
    """One rescale.

    Args:
        kafka: The cluster.
        settings: Those of the system as it is.
        data_dir: Holds the stores of all its partitions.
        partitions: How many there are to be.
        topic_prefix: The prefix of the new topics.

    Raises:
        HstuError: There would not be more partitions, or no new topics.
    """

    def __init__(
        self, kafka: Kafka, settings: StreamSettings, data_dir: Path, partitions: int, topic_prefix: str
    ) -> None:
        if partitions <= settings.partitions:
            raise HstuError(
                f"There are {settings.partitions} partitions (stream.partitions) already: --partitions has to be more; "
                "fewer are not made."
            )
        if topic_prefix == settings.topic_prefix:
            raise HstuError(
                f"The topics of now have the prefix {topic_prefix!r}, and remain: give the new ones another "
                "--topic-prefix."
            )
        self._kafka, self._settings, self._data_dir = kafka, settings, data_dir
        self._new = settings.model_copy(update={"partitions": partitions, "topic_prefix": topic_prefix})
        self._aside = data_dir / "rescaling"
        self.kept = data_dir / f"store-of-{settings.partitions}-partitions"
        """Where the old stores are afterwards."""

    def finish(self) -> bool:
        """Do what is left where an earlier rescale was killed at its very end; return whether it is done now.

        Raises:
            StoreError: A worker has made stores meanwhile, or those that an earlier rescale has kept are in the way.
        """
        store = self._data_dir / "store"
        if self.kept.exists() and (self._aside / "store").exists():
            if store.exists():
                raise StoreError(
                    f"The new stores are whole, in {self._aside / 'store'}, but a worker has made {store} before they "
                    "were in their place: stop it, move that folder away, and repeat the same command."
                )
            self._swap()
        path = partition_path(self._data_dir, 0)
        if not (self.kept.exists() and path.exists()):
            return False
        meta = read_meta(path)
        if meta is None or meta.partitions != self._new.partitions:
            raise StoreError(f"{self.kept} is there from an earlier rescale; move it away, or delete it.")
        return True

    def look(self, say: Callable[[str], None]) -> None:
        """Report what it would cost, and check whether it could be done now; workers may run, and nothing is changed.

        Raises:
            HstuError: It could not.
        """
        scratch = make_scratch()
        try:
            with ExitStack() as opened:
                old = [
                    opened.enter_context(_closing(open_secondary(path, scratch.path / path.name)))
                    for path in self._paths()
                ]
                copies = self._read_catalogue()
                say(str(self._plan(old, copies)))
                self._check(old, copies)
        finally:
            remove_scratch(scratch)

    def run(self, agreed: Callable[[Plan], bool], say: Callable[[str], None]) -> bool:
        """Do it, if the plan is agreed to; return whether it was done.

        Raises:
            HstuError: It cannot be done; the old topics and stores are as they were.
        """
        with ExitStack() as opened:
            old = [opened.enter_context(_closing(open_store(path))) for path in self._paths()]  # so no worker can
            copies = self._read_catalogue()
            metas, log = self._check(old, copies)
            if not agreed(self._plan(old, copies)):
                return False
            self._divide(old, metas, copies, log, say)
        self._swap()
        return True

    def _paths(self) -> list[Path]:
        paths = [partition_path(self._data_dir, number) for number in range(self._settings.partitions)]
        for number, path in enumerate(paths):
            if not is_there(path):
                raise StoreError(
                    f"There is no store of partition {number} in {self._data_dir}: bring the stores of all partitions "
                    "here first, by hstu store backup where they are and hstu store restore here."
                )
        return paths

    def _read_catalogue(self) -> list[list[Copy]]:
        check_permissions(self._kafka, reads=[topic_name(self._settings, topic) for topic in (*EVENTS, ITEMS)])
        return read_catalogue(self._kafka, self._settings, self._new.partitions)

    def _check(self, old: Sequence[RocksStore], copies: list[list[Copy]]) -> tuple[list[Meta], NewLog]:
        metas = [meta_of(number, store, self._settings.partitions) for number, store in enumerate(old)]
        refuse_unread(self._kafka, self._settings, metas)
        refuse_different_times(metas, self._settings.idle_timeout_s)
        log = NewLog(self._kafka, self._settings, self._new, metas)
        log.refuse_others()
        refuse_other_catalogue(self._kafka, self._new, copies)
        return metas, log

    def _plan(self, old: Sequence[RocksStore], copies: Sequence[Sequence[Copy]]) -> Plan:
        total = Census()
        for number, store in enumerate(old):
            found = count(number, store, self._settings.partitions)
            total.users += found.users
            total.waiting += found.waiting
        size = _bytes_of(self._data_dir / "store")
        if (free := shutil.disk_usage(self._data_dir).free) < _ROOM * size:
            raise StoreError(
                f"The new stores take about as much room as the old ones, {size / 1e9:,.1f} GB, and the disk of "
                f"{self._data_dir} has {free / 1e9:,.1f} GB free: make room first."
            )
        seconds = total.users * self._seconds_a_user(old[0])
        items = sum(map(len, copies))
        return Plan(self._settings.partitions, self._new.partitions, total.users, total.waiting, items, size, seconds)

    def _seconds_a_user(self, old: RocksStore) -> float:
        with (
            TemporaryDirectory(prefix="rescale-sample-", dir=self._data_dir) as folder,
            _closing(open_store(Path(folder) / "sample")) as sample,
        ):
            began_s = time.perf_counter()
            users = Division([sample]).take(old, _SAMPLE)
            sample.flush()
            return (time.perf_counter() - began_s) / max(users, 1)

    def _clear_aside(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def _divide(
        self,
        old: Sequence[RocksStore],
        metas: Sequence[Meta],
        copies: list[list[Copy]],
        log: NewLog,
        say: Callable[[str], None],
    ) -> None:
        create_topics(self._kafka, self._new)
        names = [topic_name(self._new, topic) for topic in (*EVENTS, ITEMS)]
        check_permissions(self._kafka, reads=names, writes=names)
        self._clear_aside()
        with ExitStack() as opened:
            numbers = range(self._new.partitions)
            new = [opened.enter_context(_closing(open_store(partition_path(self._aside, n)))) for n in numbers]

            def flush() -> None:
                for store in new:
                    store.flush()

            division = Division(new, flush)
            for number, store in enumerate(old):
                users = division.take(store)
                say(f"partition {number}: {users:,} users divided")
            copy_catalogue(self._kafka, self._new, copies)
            say(f"items: {sum(map(len, copies)):,} records copied")
            refuse_unread(self._kafka, self._settings, metas)
            for store, meta in zip(new, new_metas(metas, log.begin()), strict=True):
                store.write([(layout.META_KEY, layout.ENCODER.encode(meta))])
                store.flush()

    def _swap(self) -> None:
        store = self._data_dir / "store"
        if store.exists():
            store.rename(self.kept)
        (self._aside / "store").rename(store)
        _sync(self._data_dir)
        self._clear_aside()


@contextmanager
def _closing(store: RocksStore) -> Iterator[RocksStore]:
    try:
        yield store
    finally:
        store.close()


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _sync(folder: Path) -> None:
    """Write the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
