"""The verbs `hstu store`: lines, exit codes, and what they refuse."""

import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from stream.backup.cli import add_commands
from stream.backup.partition_backups import PartitionBackups, Saved
from stream.config import KafkaSettings, StreamSettings
from stream.errors import BackupError, StoreError
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.store.reader import SequenceReader
from stream.store.refusals import damaged
from stream.store.rocksdb import open_store, partition_path
from tests.stream.backup.stores import SETTINGS, make_log, read_on

LOG = make_log(60)


@dataclass
class Settings:
    """Settings as the main command builds them, and the context that loads them."""

    data_dir: Path
    stream: StreamSettings = SETTINGS
    bootstrap: str = ""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)

    def load(self, flags: dict[str, Any]) -> "Settings":
        url = flags["stream.backup_url"] or ""
        stream = self.stream.model_copy(update={"backup_url": url})
        return Settings(flags.get("data_dir") or self.data_dir, stream, flags.get("bootstrap") or "")


def hstu(folder: Path, *arguments: str, settings: StreamSettings = SETTINGS) -> Result:
    app = typer.Typer()
    add_commands(app)
    return CliRunner().invoke(app, ["store", *arguments], obj=Settings(folder, settings))


def test_backups_by_hand(tmp_path: Path) -> None:
    """Backup, verify, restore into another data directory; each says what it did, twice is no more than once."""
    url = ("--url", str(tmp_path / "backups"))
    first, second = tmp_path / "first", tmp_path / "second"
    assert hstu(first, "verify", *url).output == "partition 0: no backup\n"
    assert hstu(first, "verify", *url).exit_code == 1
    assert f"no store in {first}; name the folder" in refusal(hstu(first, "backup", *url), StoreError)
    with closing(open_store(partition_path(first, 0))) as store:
        digest = read_on(store, LOG, 60).digest
    assert "partition 0: the backup of 20" in hstu(first, "backup", *url).output
    assert hstu(first, "backup", *url).output == "partition 0: nothing that the newest whole backup has not\n"
    verified = hstu(first, "verify", *url)
    assert (verified.output.startswith("partition 0: whole, the backup of 20"), verified.exit_code) == (True, 0)
    assert "180 records read" in hstu(second, "restore", *url).output
    again = hstu(second, "restore", *url)
    assert ("no backup that is whole and has read more" in again.output, again.exit_code) == (True, 0)
    nothing = hstu(tmp_path / "third", "restore", "--url", str(tmp_path / "wrong"))
    assert f"no whole backup in {tmp_path / 'wrong'}/p0, and no store here" in nothing.output
    assert nothing.exit_code == 1
    with closing(SequenceReader(second, SETTINGS)) as reader:  # before a worker has opened it
        assert reader.first_users(1)
    with closing(open_store(partition_path(second, 0))) as store:
        assert Partition(store, 0, SETTINGS).digest == digest
    with closing(open_store(partition_path(tmp_path / "fourth", 0))) as store:
        read_on(store, LOG, 20)
    kept = hstu(tmp_path / "fourth", "restore", *url).output
    assert f"the store of before is kept as {partition_path(tmp_path / 'fourth', 0)}.replaced: delete it once" in kept
    next((tmp_path / "backups" / "p0" / "data").iterdir()).unlink()
    damaged = hstu(first, "verify", *url)
    assert ("lack a file" in damaged.output, damaged.exit_code) == (True, 1)
    assert sorted(path.name for path in (first / "store").iterdir()) == ["p0", "p0.owner"]


def test_what_cannot_be_done_by_hand_is_refused(tmp_path: Path) -> None:
    """Without a place, or for a partition that does not exist."""
    place = ("--url", str(tmp_path / "backups"))
    assert refusal(hstu(tmp_path, "verify"), BackupError).startswith("No place for backups is named; give --url")
    assert "partitions 0 to 0" in refusal(hstu(tmp_path, "backup", *place, "--partition", "7"), BackupError)


def test_a_store_that_cannot_be_used_keeps_no_other_one_from_its_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its line, by the name that its user knows; the exit code is 1."""
    save = PartitionBackups.save

    def damaged_first(backups: PartitionBackups, checkpoint: Path) -> Saved | None:
        if backups.number == 0:
            raise damaged(checkpoint, f"Corruption: in {checkpoint}/000009.sst")
        return save(backups, checkpoint)

    monkeypatch.setattr(PartitionBackups, "save", damaged_first)
    settings, path = SETTINGS.model_copy(update={"partitions": 3}), partition_path(tmp_path, 0)
    for number in range(3):
        with closing(open_store(partition_path(tmp_path, number))) as store:
            Partition(store, number, settings).handle(SourceTopic.ACTIONS, LOG[SourceTopic.ACTIONS][:9])
    with closing(open_store(partition_path(tmp_path, 1))):
        done = hstu(tmp_path, "backup", "--url", str(tmp_path / "backups"), settings=settings)
        restored = hstu(tmp_path, "restore", "--url", str(tmp_path / "backups"), settings=settings)
    assert (done.exit_code, restored.exit_code) == (1, 1)
    first, opened, last = done.output.splitlines()
    assert first.startswith(f"partition 0: The store {path} is damaged: Corruption: in {path}/000009.sst; stop its")
    assert "is open in process" in opened
    assert last.startswith("partition 2: the backup of 20")
    assert "is open in process" in restored.output.splitlines()[1]
    assert restored.output.splitlines()[2].startswith("partition 2: no backup that is whole and has read more")


def test_a_store_of_another_number_of_partitions_is_not_backed_up(tmp_path: Path) -> None:
    """Its backup would be refused afterwards, and keep others from being made."""
    settings, url = SETTINGS.model_copy(update={"partitions": 3}), tmp_path / "backups"
    with closing(open_store(partition_path(tmp_path, 0))) as store:
        Partition(store, 0, settings).handle(SourceTopic.ACTIONS, LOG[SourceTopic.ACTIONS][:9])
    done = hstu(tmp_path, "backup", "--url", str(url))
    assert done.output.startswith(
        "partition 0: The store of partition 0 was made for 3 partitions, but the settings say 1"
    )
    assert (done.exit_code, [path for path in url.rglob("*") if path.is_file()]) == (1, [])


def test_what_lies_in_a_stores_place_is_named(tmp_path: Path) -> None:
    """An empty folder is no store, and becomes none; a file, or a folder of another partition, stops no other one."""
    settings, url = SETTINGS.model_copy(update={"partitions": 3}), ("--url", str(tmp_path / "backups"))
    for number in (1, 2):
        with closing(open_store(partition_path(tmp_path, number))) as store:
            Partition(store, number, settings).handle(SourceTopic.ACTIONS, LOG[SourceTopic.ACTIONS][:9])
    empty = partition_path(tmp_path, 0)
    empty.mkdir()
    assert hstu(tmp_path, "backup", *url, settings=settings).output.startswith("partition 0: no store here\n")
    assert list(empty.iterdir()) == []
    assert hstu(tmp_path, "restore", *url, settings=settings).output.startswith("partition 0: no whole backup in")
    empty.rmdir()
    empty.touch()
    shutil.rmtree(partition_path(tmp_path, 1))
    shutil.copytree(partition_path(tmp_path, 2), partition_path(tmp_path, 1))
    for verb in ("backup", "restore"):
        done = hstu(tmp_path, verb, *url, settings=settings)
        file, other, good = done.output.splitlines()
        assert f"{empty} cannot be opened or read: it is a file, where a folder should be; move it away" in file
        assert f"{partition_path(tmp_path, 1)} is of partition 2, not of 1: its folder was copied" in other
        assert ("whole" in good, done.exit_code) == (True, 1)
    empty.unlink()
    with closing(SequenceReader(tmp_path, settings)) as reader, pytest.raises(StoreError, match="is of partition 2"):
        reader.first_users(1)
    with closing(open_store(partition_path(tmp_path, 1))) as store, pytest.raises(StoreError, match="is of partition"):
        Partition(store, 1, settings)


def test_backups_in_the_place_of_others_stop_no_other_partition(tmp_path: Path) -> None:
    """Each verb has its line, and goes on."""
    settings, url = SETTINGS.model_copy(update={"partitions": 3}), ("--url", str(tmp_path / "backups"))
    for number in range(3):
        with closing(open_store(partition_path(tmp_path, number))) as store:
            Partition(store, number, settings).handle(SourceTopic.ACTIONS, LOG[SourceTopic.ACTIONS][:9])
    assert hstu(tmp_path, "backup", *url, settings=settings).exit_code == 0
    shutil.rmtree(tmp_path / "backups" / "p1")
    shutil.copytree(tmp_path / "backups" / "p0", tmp_path / "backups" / "p1")
    for verb, place in (("verify", ""), ("backup", ""), ("restore", "fresh")):
        done = hstu(tmp_path / place, verb, *url, settings=settings)
        _, other, last = done.output.splitlines()
        assert other.startswith("partition 1: The backup")
        assert "is of partition 0, not of 1: its folder was copied or renamed" in other
        assert last.startswith("partition 2: ")
        assert done.exit_code == 1
    assert partition_path(tmp_path / "fresh", 2).exists()


def refusal(result: Result, kind: type[Exception]) -> str:
    assert isinstance(result.exception, kind), result.exception
    return str(result.exception)


def test_the_lines_name_no_stranger(tmp_path: Path) -> None:
    """A URL's password is in no line."""
    with pytest.raises(BackupError) as refused:
        raise hstu(tmp_path, "verify", "--url", "nonsense://me:secret@host/x").exception or AssertionError
    assert "secret" not in str(refused.value)
