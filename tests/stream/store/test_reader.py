"""Sequences read for queries while a worker writes them."""

import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.join.partition import Partition
from stream.schema.events import Event
from stream.schema.ids import id_key, partition_of
from stream.schema.topics import SourceTopic
from stream.store import layout, reader as reader_module
from stream.store.reader import WAITING_TOKENS, SequenceReader
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


def test_users_come_by_their_keys(tmp_path: Path) -> None:
    """Over all partitions that are here, the smallest keys first; a partition elsewhere is left out."""
    settings = StreamSettings(partitions=3, lateness_s=0)
    users = [f"u{i}" for i in range(20)]
    homes = {user: partition_of(user.encode(), 3) for user in users}
    for number in (0, 1):
        partition = Partition(open_store(partition_path(tmp_path, number)), number, settings)
        own = [user for user in users if homes[user] == number]
        events = [Record(offset, wire(action(user, "i", 1000 + offset))) for offset, user in enumerate(own)]
        partition.handle(SourceTopic.ACTIONS, events)
        for topic, offset in (
            (SourceTopic.ACTIONS, len(own)),
            (SourceTopic.IMPRESSIONS, 0),
            (SourceTopic.ATTRIBUTES, 0),
        ):
            partition.handle(topic, [Record(offset, wire({"watermark": 9000}))])
        partition.close()
    reader = SequenceReader(tmp_path, settings)
    here = sorted((user for user in users if homes[user] < 2), key=id_key)
    assert reader.first_users(100) == here
    assert reader.first_users(3) == here[:3]
    reader.close()


def test_a_store_of_more_partitions_is_refused(tmp_path: Path) -> None:
    """A server that still has the settings of before a rescale would take users for unknown who are elsewhere now."""
    home = partition_of(b"u", 5)
    settings = StreamSettings(partitions=2)
    with closing(SequenceReader(tmp_path, settings)) as reader:
        for number in range(2):
            partition = Partition(open_store(partition_path(tmp_path, number)), number, StreamSettings(partitions=5))
            partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1000)))] if number == home else [])
            partition.close()
        for ask in (lambda: reader.tokens("u", 10), lambda: reader.first_users(10)):
            with pytest.raises(StoreError, match=r"made for 5 partitions, .*stream\.partitions = 5"):
                ask()


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


def test_a_bot_slows_its_own_queries_only(tmp_path: Path) -> None:
    """Of very many waiting events the newest are read; they are decoded outside the lock, which each partition has."""
    settings = StreamSettings(partitions=2)
    home = partition_of(b"bot", 2)
    other = next(f"u{i}" for i in range(9) if partition_of(f"u{i}".encode(), 2) != home)
    neighbour = next(f"u{i}" for i in range(9) if partition_of(f"u{i}".encode(), 2) == home)
    events = [Record(i, wire(action("bot", f"i{i}", 1000 + i))) for i in range(3 * WAITING_TOKENS)]
    for number, records in ((home, events), (1 - home, [Record(0, wire(action(other, "i", 1000)))])):
        partition = Partition(open_store(partition_path(tmp_path, number)), number, settings)
        partition.handle(SourceTopic.ACTIONS, records)
        partition.handle(SourceTopic.ACTIONS, [Record(10**6, wire(action(neighbour, "i", 1000)))])
        partition.close()
    reader = SequenceReader(tmp_path, settings)
    for last, expected in ((10, 10), (2**31 - 1, WAITING_TOKENS)):
        tokens = reader.tokens("bot", last)
        assert tokens is not None
        assert tokens["ts_ms"].tolist() == list(range(1000 + len(events) - expected, 1000 + len(events)))
    read, decode = threading.Event(), reader_module.decode_waiting

    def slow(source: SourceTopic, value: bytes) -> Event:
        read.wait(30)
        return decode(source, value)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(
            reader_module, "decode_waiting", lambda *args: slow(*args) if b"bot" in args[1] else decode(*args)
        )
        bot = pool.submit(reader.tokens, "bot", 10)
        for user in (neighbour, other):
            tokens = reader.tokens(user, 10)
            assert tokens is not None
            assert not bot.done()
        read.set()
        assert bot.result() is not None
    reader.close()


def test_a_waiting_event_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """It becomes a dead-letter when a worker opens the store; meanwhile the user is answered."""
    store, settings = open_store(partition_path(tmp_path, 0)), StreamSettings(partitions=1)
    partition = Partition(store, 0, settings)
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "i", 1000)))])
    store.write([(layout.waiting_key(id_key("u"), 2000, SourceTopic.ACTIONS, 1), b"[" * 50)])
    reader = SequenceReader(tmp_path, settings)
    tokens = reader.tokens("u", 100)
    assert tokens is not None
    assert tokens["ts_ms"].tolist() == [1000]
    reader.close()
    partition.close()


def test_what_a_killed_reader_leaves_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a living one uses is not, nor what only bears such a name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "import os; from stream.store.scratch import make_scratch; print(make_scratch().path); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (tmp_path / "hstu-reader-file").touch()
    (tmp_path / "hstu-reader-link").symlink_to(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    first, second = (SequenceReader(tmp_path, StreamSettings(partitions=1)) for _ in range(2))
    left = {path.name for path in tmp_path.iterdir()} - {"hstu-reader-file", "hstu-reader-link"}
    assert left == {first._scratch.path.name, second._scratch.path.name}
    first.close()
    second.close()


def test_who_may_not_write_beside_a_store_is_told_so(tmp_path: Path) -> None:
    """rocksdict writes a file there whenever it opens a store, to read it too."""
    settings = StreamSettings(partitions=1)
    open_store(path := partition_path(tmp_path, 0)).close()
    (path / "rocksdict-config.json").unlink()
    (path / "rocksdict-config.json").mkdir()
    with (
        closing(SequenceReader(tmp_path, settings)) as reader,
        pytest.raises(StoreError, match=r"p0 cannot be opened .*: Is a directory .*\. Whoever reads it writes rocks"),
    ):
        reader.tokens("u", 1)
