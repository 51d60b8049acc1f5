"""Stores for tests of backups: a log of three sources, read by a partition whose store is a real RocksDB."""

import random
from pathlib import Path

from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.config import StreamSettings
from stream.example import Record
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.store import layout
from stream.store.rocksdb import RocksStore
from tests.wire import Record as Wired, action, impression, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=1, action_window_s=30, example_tokens=16)
START_MS = 1_700_000_000_000


def make_log(requests: int) -> dict[SourceTopic, list[Record]]:
    """Return a log of slates and clicks."""
    rng = random.Random(1)
    log: dict[SourceTopic, list[Record]] = {source: [] for source in SourceTopic}
    for n in range(requests):
        user, ts_ms, slate = f"u{rng.randrange(9)}", START_MS + n * 1000, [f"i{i}" for i in rng.sample(range(50), 3)]
        log[SourceTopic.IMPRESSIONS].append(Wired(n, wire(impression(user, f"r{n}", ts_ms, *slate))))
        log[SourceTopic.ACTIONS].append(Wired(n, wire(action(user, slate[0], ts_ms + 400, request_id=f"r{n}"))))
        log[SourceTopic.ATTRIBUTES].append(Wired(n, wire({"watermark": ts_ms})))
    return log


def read_on(store: RocksStore, log: dict[SourceTopic, list[Record]], end: int) -> Partition:
    """Let a partition read each source from where its store stands up to an offset, in batches."""
    partition = Partition(store, 0, SETTINGS)
    for start in range(0, end, 20):
        for source in SourceTopic:
            wanted = log[source][start : min(start + 20, end)]
            if wanted and wanted[-1].offset >= partition.next_offsets[source]:
                partition.handle(source, wanted)
    return partition


def backups_in(url: str | Path, keep: int = 3, cluster: str = "") -> PartitionBackups:
    """Return the backups of partition 0 in a place, as a worker that has just started sees them."""
    return PartitionBackups(Place(str(url)), "", 0, 1, keep, cluster)


def save(store: RocksStore, backups: PartitionBackups, aside: Path) -> int | None:
    """Back a store up; return how many bytes were copied, None if there was nothing new."""
    store.checkpoint(aside)
    saved = backups.save(aside)
    return saved.copied if saved else None


def flip_a_bit(path: Path) -> None:
    """Flip a bit in the middle of a store's largest table, as a disk does: its block is only found wrong when read."""
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 4
    table.unlink()  # other links to it stay as they are
    table.write_bytes(data)


def seem_newer(store: RocksStore) -> None:
    """Let a store say that it has read a record more of each source; no damaged block is read for it."""
    data = store.get(layout.META_KEY)
    assert data is not None
    meta = layout.unpack(layout.METAS, layout.META_KEY, data)
    meta.offsets = [offset + 1 for offset in meta.offsets]
    store.write([(layout.META_KEY, layout.ENCODER.encode(meta))])
