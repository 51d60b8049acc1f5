"""The backups of one partition's store.

    <backup_url>/<prefix>p0/epoch-E                    who writes here since when: the highest epoch E does
    <backup_url>/<prefix>p0/backup-E-RECORDS.json      a manifest (manifest.py); RECORDS: read of the three sources
    <backup_url>/<prefix>p0/data/E-XXH3                a file of a store, by the digest of its content

A backup is made in this order; a crash leaves what the next one removes:

    1. see that no higher epoch has been claimed
    2. copy the files of a checkpoint that the newest backup does not have, once their tables are found undamaged
    3. see again that no higher epoch has been claimed, and write the manifest
    4. delete older backups of this Kafka than are kept and damaged ones, and then the files that no other one names

A backup that names no Kafka, made by hand where none answered, is deleted only for others that name none. Files and
folders of other names are none of ours: they are passed over, and left where they are.

A store is a function of Kafka's logs, so two owners write the same sequences; what a worker that has lost the partition
without knowing could spoil is the other's files. Whoever opens a partition therefore claims the next epoch first, and
reuses files of the newest backup alone, as it is listed after that. An owner of before notices at 1 or 3. If it was
past 3, it deletes no file of the newest backups that it has seen, nor one of a later epoch.
"""

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream.backup.manifest import File, Manifest, decode_manifest, encode_manifest, make_manifest
from stream.backup.place import Place, digest_of
from stream.errors import BackupError, DamagedError, FencedError, FormatError, StoreDamagedError, StoreError
from stream.store.refusals import refuse_other_count, refuse_other_partition
from stream.store.rocksdb import read_meta
from stream.store.tables import damaged_tables

_CLAIM: Final = "epoch-"
_BACKUP: Final = "backup-"
_EPOCH: Final = r"\d{12}-[0-9a-f]{8}"
_CLAIMS: Final = re.compile(rf"{_CLAIM}({_EPOCH})")
_MANIFESTS: Final = re.compile(rf"{_BACKUP}({_EPOCH})-\d{{20}}\.json")
_FILES: Final = re.compile(rf"({_EPOCH})-[0-9a-f]{{32}}")
_log = logging.getLogger("hstu.backup")


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup that was made, and how many bytes had to be copied for it."""

    manifest: Manifest
    copied: int


class PartitionBackups:
    """Backups of one partition, used by one thread at a time.

    Args:
        root: Where the backups of all partitions lie.
        prefix: stream.topic_prefix.
        number: The partition.
        partitions: How many there are.
        keep: How many backups are kept.
        cluster: Id of the Kafka whose logs the store reads, empty where that is not known.
        wall: Wall time in seconds since 1970.
    """

    def __init__(
        self,
        root: Place,
        prefix: str,
        number: int,
        partitions: int,
        keep: int,
        cluster: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.number, self._partitions = number, partitions
        self.place = root.under(f"{prefix}p{number}")
        self._data = self.place.under("data")
        self._keep, self._cluster, self._wall = keep, cluster, wall
        self._epoch = ""
        self._newest: Manifest | None = None  # the one whose files are known to be there
        self._digests: dict[tuple[int, int, int], str] = {}  # of files by inode, bytes and time

    def claim(self) -> None:
        """Take the backups over; whoever had them writes nothing more.

        Raises:
            BackupError: They cannot be read or written.
        """
        last = self._highest_epoch()
        self._epoch = f"{int(last[:12] or 0) + 1:012d}-{secrets.token_hex(4)}"
        self._newest = None
        self.place.write(_CLAIM + self._epoch, f"{_this_process()}\n".encode())

    def newest(self) -> Manifest | None:
        """Return the newest manifest that can be read, None where there is none.

        Raises:
            BackupError: They cannot be read.
            FormatError: One is of another version, Kafka, partition, or number of partitions.
        """
        return next(filter(None, map(self._readable, self.names())), None)

    def newest_first(self) -> Iterator[Manifest]:
        """Yield the manifests, the newest first; a damaged one is named in the log and passed over.

        Raises:
            BackupError: They cannot be read.
            FormatError: One is of another version, Kafka, partition, or number of partitions.
        """
        for name in self.names():
            try:
                yield self.load(name)
            except DamagedError as error:
                _log.warning("%s It is passed over.", error)

    def newest_whole(self) -> Manifest | None:
        """Return the newest backup whose manifest is whole and whose files are all there, of the right size.

        Raises:
            BackupError: They cannot be read.
            FormatError: One is of another version, Kafka, partition, or number of partitions.
        """
        names = self.names()
        sizes = self._data.sizes()
        return next((found for name in names if (found := self._whole(name, sizes))), None)

    def save(self, checkpoint: Path) -> Saved | None:
        """Make a backup of a checkpoint, unless the newest whole one of its Kafka has seen as many; prune the others.

        The backups are claimed only for one that is made: a worker that was fenced and reads nothing any more, cut off
        from Kafka say, leaves its successor alone.

        Raises:
            FencedError: Another worker has taken the backups over; claim them anew only if the partition is ours.
            FormatError: One is of another version, Kafka, partition, or number of partitions; nothing was written.
            BackupError: They cannot be read or written, or name a Kafka where this one would name none.
            StoreDamagedError: One of its tables is damaged; the backups stay as they are.
            StoreError: The checkpoint cannot be read, or is of another partition.
        """
        if self._epoch:
            self._refuse_if_fenced()
        meta, newest = read_meta(checkpoint), self._newest_own()
        if meta is None:
            return None
        refuse_other_partition(meta, self.number, checkpoint)
        refuse_other_count(meta, self.number, self._partitions)
        if newest and newest.records >= sum(meta.offsets):
            return None
        if not self._epoch:
            self.claim()
        files, copied = self._copy(checkpoint, self._there())
        now_ms = int(self._wall() * 1000)
        manifest = make_manifest(self.number, meta, self._cluster, self._epoch, now_ms, _this_process(), files)
        self._refuse_if_fenced()
        self.place.write(f"{_BACKUP}{self._epoch}-{manifest.records:020d}.json", encode_manifest(manifest))
        self._newest = manifest
        self._prune()
        return Saved(manifest, copied)

    def fetch(self, manifest: Manifest, into: Path, old: Path | None) -> int:
        """Write a backup's store into a new folder, every file verified; return how many bytes were copied.

        Args:
            manifest: The backup.
            into: Does not exist yet.
            old: An older store of the partition, whose files are linked where they are the same.

        Raises:
            DamagedError: A file is missing, or is not the one that was written, or the store itself was damaged.
            BackupError: They cannot be read.
        """
        into.mkdir(parents=True)
        copied: dict[Path, File] = {}
        for file in manifest.files:
            _refuse_paths(file)
            target = into / file.name
            if old is None or not _link(old / file.name, target, file):
                self._refuse_other(file, self._data.get(file.stored, target), target.stat().st_size)
                copied[target] = file
        self._refuse_unlike(manifest, into, damaged_tables(copied))
        self._newest = manifest
        return sum(file.bytes for file in copied.values())

    def verify(self, manifest: Manifest) -> None:
        """Read every file of a backup.

        Raises:
            DamagedError: One is missing, or is not the one that was written.
            BackupError: They cannot be read.
        """
        sizes = self._data.sizes()
        for file in manifest.files:
            self._refuse_other(file, self._data.digest(file.stored), sizes.get(file.stored, -1))

    def load(self, name: str) -> Manifest:
        """Return the manifest of a name.

        Raises:
            DamagedError: It was cut off or edited.
            FormatError: It is of another version, Kafka, partition, or number of partitions.
            BackupError: It cannot be read.
        """
        manifest = decode_manifest(self.place.read(name), f"{self.place.url}/{name}")
        if manifest.partition != self.number:
            raise FormatError(
                f"The backup {self.place.url}/{name} is of partition {manifest.partition}, not of {self.number}: its "
                "folder was copied or renamed. Move it away, and put that of the right partition in its place."
            )
        if manifest.partitions != self._partitions:
            raise FormatError(
                f"The backup {self.place.url}/{name} is of {manifest.partitions} partitions, and the settings say "
                f"{self._partitions}; a user's home depends on it: set stream.partitions = {manifest.partitions}, or "
                "name another place for backups."
            )
        if manifest.cluster and self._cluster and manifest.cluster != self._cluster:
            raise FormatError(
                f"The backup {self.place.url}/{name} is of another Kafka, whose cluster id is {manifest.cluster}, and "
                f"this one's is {self._cluster}: set stream.backup_url to another place. It is left as it is."
            )
        return manifest

    def names(self) -> list[str]:
        """Return the names of the manifests, the newest first."""
        return [name for name in reversed(self.place.sizes()) if _MANIFESTS.fullmatch(name)]

    def _newest_own(self) -> Manifest | None:
        """Return the newest whole backup of this Kafka, every manifest looked at.

        Raises:
            FormatError: One is of another version, Kafka, partition, or number of partitions.
            BackupError: One names its Kafka, and ours is not known.
        """
        found = list(filter(None, map(self._readable, self.names())))
        if not self._cluster and (named := next((each.cluster for each in found if each.cluster), "")):
            raise BackupError(
                f"The backups in {self.place.url} are of the Kafka whose cluster id is {named}, and whether this store "
                "is of it is not known: name that Kafka by --bootstrap, or another place by --url."
            )
        sizes = self._data.sizes()
        return next((each for each in found if each.cluster == self._cluster and _has_its_files(each, sizes)), None)

    def _whole(self, name: str, sizes: Mapping[str, int]) -> Manifest | None:
        """Return a manifest if all its files are in a listing, made after the manifest was, with their sizes."""
        try:
            manifest = self.load(name)
        except DamagedError:
            return None
        return manifest if _has_its_files(manifest, sizes) else None

    def _highest_epoch(self) -> str:
        return max((_epoch_of(name, _CLAIMS, _MANIFESTS) for name in self.place.sizes()), default="")

    def _refuse_if_fenced(self) -> None:
        highest = self._highest_epoch()
        if highest > self._epoch:
            self._epoch = ""
            raise FencedError(
                f"The backups in {self.place.url} were taken over by epoch {highest}: another worker has opened "
                f"partition {self.number} since. Nothing of this one is written to them."
            )

    def _there(self) -> dict[str, File]:
        """Return the files of the newest backup that need not be copied again, by their digests."""
        newest = self._newest or self.newest_whole()
        sizes = self._data.sizes()
        files = newest.files if newest else []
        return {file.xxh3: file for file in files if sizes.get(file.stored) == file.bytes}

    def _copy(self, checkpoint: Path, there: dict[str, File]) -> tuple[list[File], int]:
        files, new = [], {}
        digests: dict[tuple[int, int, int], str] = {}
        for path in sorted(checkpoint.iterdir()):
            stat = path.stat()
            identity = stat.st_ino, stat.st_size, stat.st_mtime_ns
            digest = digests[identity] = self._digests.get(identity) or digest_of(path)
            known = there.get(digest)
            files.append(File(path.name, known.stored if known else f"{self._epoch}-{digest}", stat.st_size, digest))
            if known is None:
                new[path] = files[-1]
        self._digests = digests
        self._refuse_damaged(new)
        for path, file in new.items():
            self._data.put(path, file.stored)
        return files, sum(file.bytes for file in new.values())

    def _refuse_damaged(self, paths: Iterable[Path]) -> None:
        """Check that no table is damaged: a backup of it would push out those of before it was.

        Raises:
            StoreDamagedError: One is.
        """
        if damaged := damaged_tables(paths):
            raise StoreDamagedError(
                f"The store of partition {self.number} is damaged: {', '.join(damaged)} is not what RocksDB wrote. The "
                f"backups in {self.place.url} stay as they are: stop its worker and run hstu store restore."
            )

    def _prune(self) -> None:
        """Delete damaged backups, whole ones of this Kafka beyond those to keep, and the files that no other one names.

        What a later epoch has, and names, is left alone: its owner may be at work.
        """
        self._refuse_if_fenced()
        names = self.names()
        sizes = self._data.sizes()
        gone: list[str] = []
        named: set[str] = set()
        kept = 0
        for name in names:
            manifest = self._readable(name)
            ours = _epoch_of(name, _MANIFESTS) <= self._epoch and (not manifest or manifest.cluster == self._cluster)
            if ours and kept == self._keep:
                gone.append(name)
            elif ours and not (manifest and _has_its_files(manifest, sizes)):
                _log.warning("The backup %s/%s is deleted: it lacks files or is damaged.", self.place.url, name)
                gone.append(name)
            elif manifest:
                kept += ours
                named |= {file.stored for file in manifest.files}
        self.place.delete(gone)
        files = (name for name in self._data.sizes() if name not in named)
        self._data.delete(name for name in files if "" < _epoch_of(name, _FILES) <= self._epoch)
        self.place.delete(name for name in self.place.sizes() if "" < _epoch_of(name, _CLAIMS) < self._epoch)

    def _readable(self, name: str) -> Manifest | None:
        with suppress(DamagedError):
            return self.load(name)
        return None

    def _refuse_unlike(self, manifest: Manifest, restored: Path, damaged: list[str]) -> None:
        """Check that what was restored is a store that can be read, and has come as far as its manifest says.

        Raises:
            DamagedError: It is not: the store was damaged already when the backup was made.
        """
        try:
            meta = read_meta(restored)
            wrong = f"{', '.join(damaged)} is not what RocksDB wrote" if damaged else ""
            if meta:
                refuse_other_partition(meta, self.number, restored)
        except StoreError as error:
            meta, wrong = None, str(error)
        if wrong or meta is None or meta.offsets != manifest.offsets:
            raise DamagedError(
                f"The backup of {manifest.records:,} records in {self.place.url} was made of a damaged store: "
                f"{wrong or 'it has read other records than its manifest says'}."
            )

    def _refuse_other(self, file: File, digest: str, size: int) -> None:
        if (digest, size) != (file.xxh3, file.bytes):
            raise DamagedError(
                f"The file {self._data.url}/{file.stored} ({file.name} of the store) is not the one that was written: "
                f"it has {size} bytes and the digest {digest}, and should have {file.bytes} and {file.xxh3}."
            )


def _has_its_files(manifest: Manifest, sizes: Mapping[str, int]) -> bool:
    return all(sizes.get(file.stored) == file.bytes for file in manifest.files)


def _epoch_of(name: str, *kinds: re.Pattern[str]) -> str:
    """Return the epoch in a name of one of these kinds, empty in any other name."""
    found = next(filter(None, (kind.fullmatch(name) for kind in kinds)), None)
    return found[1] if found else ""


def _link(path: Path, target: Path, file: File) -> bool:
    """Link a file of an older store, if it is the same; only tables (.sst) never change."""
    try:
        if path.suffix != ".sst" or path.stat().st_size != file.bytes or digest_of(path) != file.xxh3:
            return False
        os.link(path, target)
    except OSError:  # it is not there, was just compacted away, or lies on another file system
        return False
    return True


def _refuse_paths(file: File) -> None:
    if Path(file.name).name != file.name or Path(file.stored).name != file.stored:
        raise DamagedError(f"A backup names {file.name!r}, stored as {file.stored!r}, which are no plain file names.")


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
