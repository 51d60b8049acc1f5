"""`hstu topics rescale`: new topics and new stores of more partitions, in which every user goes on.

    1. look      the old stores are whole, closed to others, at the end of the log and at one time; say what it costs,
                 and look once more where somebody was asked
    2. divide    the old stores into <data_dir>/rescaling/store, beside the copy of `items` into the new topics
    3. look      nothing has come into the old log, or into `items`, meanwhile
    4. begin     the first records of the new log; the new stores have read them
    5. swap      store → store-of-N-partitions, rescaling/store → store

Killed before 5, it begins with 1 again: stores are divided anew, and records that are there are not written twice.
Killed within 5, it does what is left of 5, if the new stores have read the log that is named. The old topics and stores
are only read.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream.config import StreamSettings
from stream.errors import HstuError, StoreError
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import check_new_topics, create_topics, topic_name
from stream.rescale.barrier import NewLog, meta_of, refuse_different_times, refuse_other_prefix, refuse_unread
from stream.rescale.catalogue import (
    Catalogue,
    copy_catalogue,
    read_catalogue,
    refuse_grown,
    refuse_other_catalogue,
)
from stream.rescale.division import Census, Division, count, new_metas
from stream.schema.topics import ALL, EVENTS, ITEMS
from stream.store import layout
from stream.store.layout import Meta
from stream.store.reader import refuse_other
from stream.store.rocksdb import RocksStore, is_there, open_secondary, open_store, partition_path, read_meta
from stream.store.scratch import Scratch, make_scratch, remove_scratch

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
            StoreError: A worker has made stores meanwhile, or those that an earlier rescale has kept are in the way,
                or were divided for other topics.
        """
        if self._is_in_swap():
            self._swap()
        if not self._is_done():
            if self.kept.exists() and partition_path(self._data_dir, 0).exists():
                raise self._in_the_way()
            return False
        return True

    def look(self, say: Callable[[str], None]) -> None:
        """Report what it would cost, and check whether it could be done now; workers may run, and nothing is changed.

        Raises:
            HstuError: It could not.
        """
        if self._is_in_swap():
            say("The stores are divided; the same command without --dry-run puts them in their place.")
            return
        if self._is_done():
            say("It is done already.")
            return
        with _scratch() as scratch, ExitStack() as opened:
            old = []
            for number, path in enumerate(self._paths()):
                old.append(opened.enter_context(_closing(open_secondary(path, scratch.path / path.name))))
                refuse_other(old[-1], number, path, self._settings.partitions)  # else the plan would be of others
            catalogue = self._read_catalogue()
            say(str(self._plan(old, catalogue)))
            if self.kept.exists():
                raise self._in_the_way()
            self._check(old, catalogue)

    def run(self, agreed: Callable[[Plan], bool], say: Callable[[str], None]) -> bool:
        """Do it, if the plan is agreed to; return whether it was done.

        Raises:
            HstuError: It cannot be done; the old topics and stores are as they were.
        """
        with ExitStack() as opened:
            old = [opened.enter_context(_closing(open_store(path))) for path in self._paths()]  # so no worker can
            catalogue = self._read_catalogue()
            self._check(old, catalogue)
            if not agreed(self._plan(old, catalogue)):
                return False
            catalogue = self._read_catalogue()  # whoever was asked has taken their time
            metas, log = self._check(old, catalogue)
            try:
                self._divide(old, metas, catalogue, log, say)
            except BaseException:
                self._clear_aside()
                raise
        self._swap()
        return True

    def _is_in_swap(self) -> bool:
        """Return whether an earlier rescale to these topics was killed while it put the new stores in their place."""
        store, aside = self._data_dir / "store", self._aside / "store"
        if not (self.kept.exists() and aside.exists()):
            return False
        if store.exists():
            raise StoreError(
                f"The new stores are whole, in {aside}, but a worker has made {store} before they were in their place: "
                "stop it, move that folder away, and repeat the same command."
            )
        self._refuse_other_prefix(self._aside)
        return True

    def _is_done(self) -> bool:
        """Return whether the stores are those of an earlier rescale to these topics."""
        path = partition_path(self._data_dir, 0)
        if not (self.kept.exists() and path.exists()):
            return False
        meta = read_meta(path)
        if meta is None or meta.partitions != self._new.partitions:
            return False
        self._refuse_other_prefix(self._data_dir)
        return True

    def _refuse_other_prefix(self, folder: Path) -> None:
        paths = {number: partition_path(folder, number) for number in range(self._new.partitions)}
        metas = {number: meta for number, path in paths.items() if is_there(path) and (meta := read_meta(path))}
        refuse_other_prefix(self._kafka, self._new, metas)

    def _in_the_way(self) -> StoreError:
        return StoreError(f"{self.kept} is there from an earlier rescale; move it away, or delete it.")

    def _paths(self) -> list[Path]:
        paths = [partition_path(self._data_dir, number) for number in range(self._settings.partitions)]
        for number, path in enumerate(paths):
            if not is_there(path):
                raise StoreError(
                    f"There is no store of partition {number} in {self._data_dir}: bring the stores of all partitions "
                    "here first, by hstu store backup where they are and hstu store restore here."
                )
        return paths

    def _read_catalogue(self) -> Catalogue:
        check_permissions(self._kafka, reads=[topic_name(self._settings, topic) for topic in (*EVENTS, ITEMS)])
        return read_catalogue(self._kafka, self._settings, self._new.partitions)

    def _check(self, old: Sequence[RocksStore], catalogue: Catalogue) -> tuple[list[Meta], NewLog]:
        metas = [meta_of(number, store, self._settings.partitions) for number, store in enumerate(old)]
        refuse_unread(self._kafka, self._settings, metas)
        refuse_different_times(metas, self._settings.idle_timeout_s)
        self._check_permissions()
        check_new_topics(self._kafka, self._new)
        log = NewLog(self._kafka, self._settings, self._new, metas)
        log.refuse_others()
        refuse_other_catalogue(self._kafka, self._new, catalogue)
        return metas, log

    def _check_permissions(self) -> None:
        names = [topic_name(self._new, topic) for topic in (*EVENTS, ITEMS)]
        made = [(operation, topic_name(self._new, topic)) for topic in ALL for operation in ("CREATE", "DESCRIBE")]
        check_permissions(self._kafka, reads=names, writes=names, others=made)

    def _plan(self, old: Sequence[RocksStore], catalogue: Catalogue) -> Plan:
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
        partitions = self._settings.partitions, self._new.partitions
        return Plan(*partitions, total.users, total.waiting, len(catalogue), size, seconds)

    def _seconds_a_user(self, old: RocksStore) -> float:
        with _scratch() as scratch, _closing(open_store(scratch.path / "sample")) as sample:
            began_s = time.perf_counter()
            users = Division([_Blank(sample)]).take(old, _SAMPLE)
            sample.flush()
            return (time.perf_counter() - began_s) / max(users, 1)

    def _clear_aside(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def _divide(
        self,
        old: Sequence[RocksStore],
        metas: Sequence[Meta],
        catalogue: Catalogue,
        log: NewLog,
        say: Callable[[str], None],
    ) -> None:
        create_topics(self._kafka, self._new)
        self._check_permissions()  # some say less of topics that do not exist
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
            copy_catalogue(self._kafka, self._new, catalogue)
            say(f"items: {len(catalogue):,} records copied")
            refuse_unread(self._kafka, self._settings, metas)
            refuse_grown(self._kafka, self._settings, catalogue)
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


class _Blank:
    """Takes what is written as so many other bytes: where the process is killed, no copy of a user is left behind."""

    def __init__(self, store: RocksStore) -> None:
        self._store, self._written = store, 0

    def get(self, _: bytes) -> None:
        """Return nothing: a sample has each user once."""

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write as many bytes under new keys."""
        blank = []
        for key, value in changes:
            self._written += 1
            blank.append((self._written.to_bytes(max(8, len(key))), os.urandom(len(value or b""))))
        self._store.write(blank)


@contextmanager
def _scratch() -> Iterator[Scratch]:
    scratch = make_scratch()
    try:
        yield scratch
    finally:
        remove_scratch(scratch)


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
