"""Sequences read for queries while a worker writes them."""

import shutil
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.join.partition import Partition
from stream.schema.ids import partition_of
from stream.schema.topics import SourceTopic
from stream.store.reader import SequenceReader
from stream.store.rocksdb import open_store, partition_path
from tests.wire import Record, action, wire


def test_a_reader_sees_what_a_running_worker_writes(tmp_path: Path) -> None:
    """The secondary follows the writer, shows waiting events, and knows who is unknown."""
    settings = StreamSettings(partitions=2)
    home = partition_of(b"u", 2)
    partition = Partition(open_store(partition_path(tmp_path, home)), home, settings)
    reader = SequenceReader(tmp_path, settings)
    for offset in range(3):
        partition.handle(SourceTopic.ACTIONS, [Record(offset, wire(action("u", f"i{offset}", 1000 + offset)))])
        tokens = reader.tokens("u", 100)
        assert tokens is not None
        assert tokens["ts_ms"].tolist() == list(range(1000, 1001 + offset))
    stranger = next(f"s{i}" for i in range(9) if partition_of(f"s{i}".encode(), 2) == home)
    assert reader.tokens(stranger, 100) is None
    reader.close()
    partition.close()


def test_a_reader_follows_a_store_that_was_rebuilt(tmp_path: Path) -> None:
    """While the folder is gone there is no store; afterwards answers come from the new one, not from deleted files."""
    settings, path = StreamSettings(partitions=1), partition_path(tmp_path, 0)
    reader = SequenceReader(tmp_path, settings)
    for events in (3, 2):
        partition = Partition(open_store(path), 0, settings)
        for offset in range(events):
            partition.handle(SourceTopic.ACTIONS, [Record(offset, wire(action("u", f"i{offset}", 1000 + offset)))])
            tokens = reader.tokens("u", 100)
            assert tokens is not None
            assert len(tokens) == offset + 1
        partition.close()
        shutil.rmtree(path)
        with pytest.raises(StoreError, match="There is no store in"):
            reader.tokens("u", 100)
    reader.close()


def test_a_reader_goes_on_when_the_worker_starts_again(tmp_path: Path) -> None:
    """The store is the same one, and is not opened twice."""
    settings = StreamSettings(partitions=1)
    reader = SequenceReader(tmp_path, settings)
    opened = []
    for offset in range(2):
        partition = Partition(open_store(partition_path(tmp_path, 0)), 0, settings)
        partition.handle(SourceTopic.ACTIONS, [Record(offset, wire(action("u", f"i{offset}", 1000 + offset)))])
        tokens = reader.tokens("u", 100)
        assert tokens is not None
        assert len(tokens) == offset + 1
        opened.append(reader._stores[0])
        partition.close()
    assert opened[0] is opened[1]
    reader.close()
