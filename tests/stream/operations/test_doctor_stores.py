"""`hstu doctor` on stores of this host, and a real Kafka: sound, left, of another log, misplaced, read on meanwhile."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream.config import KafkaSettings, StreamSettings
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.operations import topic_checks
from stream.operations.doctor import examine
from stream.operations.findings import Level
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from stream.store.standby import mark_left, mark_standby
from tests.examined import commit, has_read, send, wrong
from tests.kafka import KafkaForTests
from tests.kafka_logs import delete_before, read
from tests.wire import Record, action, wire

PARTITIONS = 2  # of the fixture `settings`


def test_a_store_behind_what_kafka_keeps_fails(
    kafka: KafkaForTests, settings: StreamSettings, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The line has the topic, both offsets and what to do; a store that can go on has its lag, and is named before."""
    caplog.set_level("INFO", "hstu.doctor")
    send(Kafka(kafka.bootstrap), settings, "actions", *[(0, b"u", wire(action("u", "i", ts))) for ts in range(10)])
    (log, _) = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "actions", PARTITIONS))
    has_read(log[:1], settings, data_dir)
    found = [one for one in examine(kafka.bootstrap, KafkaSettings(), settings, data_dir) if one.what == "stores"]
    assert [(one.level, "1 of 2" in one.says, "9 records" in one.says) for one in found] == [(Level.OK, True, True)]
    assert f"Opening {partition_path(data_dir, 0)}" in caplog.messages
    asyncio.run(delete_before(kafka.bootstrap, settings.topic_prefix + "actions", 0, 4))
    lost = wrong(Kafka(kafka.bootstrap), settings, data_dir)["stores"]
    assert lost.level is Level.FAIL
    assert "begins at offset 4" in lost.says
    assert "deleted 3 records unread" in lost.says


def test_a_store_that_was_left_is_warned_of(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """Whose partition another host's worker has: users may have been forgotten since. Standbys are none, nor is one
    that the group has not passed."""
    name = settings.topic_prefix + "actions"
    send(Kafka(kafka.bootstrap), settings, "actions", *[(0, b"u", wire(action("u", "i", ts))) for ts in range(3)])
    (log, _) = asyncio.run(read(kafka.bootstrap, name, PARTITIONS))
    has_read(log[:2], settings, data_dir)
    for committed, found in ((2, 0), (3, 1)):
        commit(Kafka(kafka.bootstrap), settings, "actions", committed)
        left = list(topic_checks.check_left(Kafka(kafka.bootstrap), settings, data_dir))
        assert len(left) == found
    assert (left[0].level, "p0 in" in left[0].says) == (Level.WARN, True)
    assert left[0].mend.startswith("if this host should have these partitions, start its worker")
    assert "Delete a folder only where hstu doctor on another host finds" in left[0].mend
    mark_standby(partition_path(data_dir, 0))
    follows = settings.model_copy(update={"standby": True})
    assert not list(topic_checks.check_left(Kafka(kafka.bootstrap), follows, data_dir))
    assert list(topic_checks.check_left(Kafka(kafka.bootstrap), settings, data_dir))  # nobody follows any more


def test_a_store_that_is_read_on_meanwhile_is_sound(
    kafka: KafkaForTests, settings: StreamSettings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker reads, and commits, before the store is looked at: neither is it of another Kafka, nor was it left."""
    event, read_meta = wire(action("u", "i", 1)), topic_checks._meta

    def read_on(*given: Any) -> Any:
        send(Kafka(kafka.bootstrap), settings, "actions", (0, b"u", event))
        log = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "actions", PARTITIONS))[0]
        has_read(log[-1:], settings, data_dir)
        meta = read_meta(*given)
        commit(Kafka(kafka.bootstrap), settings, "actions", len(log))
        return meta

    send(Kafka(kafka.bootstrap), settings, "actions", (0, b"u", event))
    has_read(asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "actions", PARTITIONS))[0], settings, data_dir)
    monkeypatch.setattr(topic_checks, "_meta", read_on)
    (found,) = topic_checks.check_progress(Kafka(kafka.bootstrap), settings, data_dir)
    assert (found.level, "; 0 records are not read yet" in found.says) == (Level.OK, True)
    assert not list(topic_checks.check_left(Kafka(kafka.bootstrap), settings, data_dir))


def test_a_store_that_is_opened_meanwhile_was_not_left(
    kafka: KafkaForTests, settings: StreamSettings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker has just come back to it."""
    send(Kafka(kafka.bootstrap), settings, "actions", *[(0, b"u", wire(action("u", "i", ts))) for ts in range(2)])
    log = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "actions", PARTITIONS))[0]
    has_read(log[:1], settings, data_dir)
    commit(Kafka(kafka.bootstrap), settings, "actions", 2)
    assert list(topic_checks.check_left(Kafka(kafka.bootstrap), settings, data_dir))
    answers = iter([False, True])
    monkeypatch.setattr(topic_checks, "is_open_elsewhere", lambda _: next(answers))
    assert not list(topic_checks.check_left(Kafka(kafka.bootstrap), settings, data_dir))


def test_a_store_that_is_not_what_it_should_be_is_not_told_to_be_deleted(
    kafka: KafkaForTests, settings: StreamSettings, data_dir: Path
) -> None:
    """Misplaced, or of another log, it has its own line alone: in its right place it may be the last copy."""
    send(Kafka(kafka.bootstrap), settings, "actions", *[(0, b"u", wire(action("u", "i", ts))) for ts in range(3)])
    log = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "actions", PARTITIONS))[0]
    commit(Kafka(kafka.bootstrap), settings, "actions", 3)
    partition = Partition(open_store(partition_path(data_dir, 0)), 1, settings)
    partition.handle(SourceTopic.ACTIONS, log[:1])
    partition.close()
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)
    assert ("left stores" in found, "is of partition 1, not of 0" in found["stores"].says) == (False, True)
    shutil.rmtree(partition_path(data_dir, 0))
    has_read([Record(0, b"{}")], settings, data_dir)
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)
    assert ("left stores" in found, "holds another record at offset 0" in found["stores"].says) == (False, True)


def test_it_is_said_who_uses_the_stores(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """None is called open that no worker has open; marked ones are counted."""
    has_read([], settings, data_dir)
    path = partition_path(data_dir, 0)

    def says() -> str:
        (found,) = topic_checks.check_progress(Kafka(kafka.bootstrap), settings, data_dir)
        return found.says

    assert f"1 of 2 are in {data_dir} and can be opened; 0 records are not read yet" in says()
    mark_left(path)
    assert "can be opened, 1 marked as left; 0 records" in says()
    mark_standby(path)
    assert "can be opened, 1 standing by; 0 records" in says()
    code = (
        f"import sys, pathlib; from stream.store.rocksdb import open_store; s = open_store(pathlib.Path({str(path)!r}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert "can be opened, 1 of them open in a worker" in says()
        worker.communicate()


def test_a_store_of_another_log_fails(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """Also where the offsets would fit: the last record read is another one now."""
    name = settings.topic_prefix + "actions"
    send(Kafka(kafka.bootstrap), settings, "actions", *[(0, b"u", wire(action("u", "i", ts))) for ts in range(3)])
    (log, _) = asyncio.run(read(kafka.bootstrap, name, PARTITIONS))
    has_read([Record(0, b"{}"), Record(1, log[1].value, log[1].key, log[1].timestamp + 1)], settings, data_dir)
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)["stores"]
    assert (found.level, f"{name}[0] holds another record at offset 1" in found.says) == (Level.FAIL, True)
    asyncio.run(delete_before(kafka.bootstrap, name, 0, 2))  # what retention deletes is no other log
    assert "stores" not in wrong(Kafka(kafka.bootstrap), settings, data_dir)
    next((data_dir / "store" / "p0").glob("*.sst")).unlink()
    (found,) = topic_checks.check_progress(Kafka(kafka.bootstrap), settings, data_dir)  # and none of them is fine
    assert (found.level, "p0 is damaged" in found.says) == (Level.FAIL, True)
