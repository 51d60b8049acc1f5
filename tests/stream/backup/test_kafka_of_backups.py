"""Backups made by hand of a store whose logs a real Kafka has: they name it, and keep to its logs."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.config import StreamSettings
from stream.example import Record
from stream.kafka.clients import cluster_id
from stream.kafka.connection import Kafka
from stream.local_broker.node import free_port
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.kafka_logs import fill, make_topics, read
from tests.stream.backup.stores import SETTINGS, make_log, read_on, save
from tests.stream.backup.test_cli import hstu

Logs = dict[SourceTopic, list[Record]]


@pytest.fixture
def settings(topic_prefix: str) -> StreamSettings:
    return SETTINGS.model_copy(update={"topic_prefix": topic_prefix})


@pytest.fixture
def log(bootstrap: str, topic_prefix: str) -> Logs:
    """Topics with 60 records each, as Kafka gives them back."""

    async def make() -> Logs:
        names = {source: topic_prefix + source.topic for source in SourceTopic}
        await make_topics(bootstrap, names.values(), 1)
        for source, records in make_log(60).items():
            await fill(bootstrap, names[source], [(0, None, record.value, 0) for record in records])
        return {source: (await read(bootstrap, name, 1))[0] for source, name in names.items()}

    return asyncio.run(make())


def make_store(data_dir: Path, log: Logs, end: int = 60) -> None:
    with closing(open_store(partition_path(data_dir, 0))) as store:
        read_on(store, log, end)


def backups_at(url: Path, settings: StreamSettings, cluster: str) -> PartitionBackups:
    return PartitionBackups(Place(str(url)), settings.topic_prefix, 0, 1, 2, cluster)


def test_they_name_the_kafka_that_answers(bootstrap: str, settings: StreamSettings, log: Logs, tmp_path: Path) -> None:
    """Where none does, a line says so, and they name none; where none is named, there is no line."""
    make_store(tmp_path, log)
    silent, ours = f"127.0.0.1:{free_port()}", cluster_id(Kafka(bootstrap), 5.0)
    assert ours
    for at, cluster, said in (
        (bootstrap, ours, ""),
        (silent, "", "Backups without the name of their Kafka: "),
        ("", "", ""),
    ):
        url = tmp_path / f"backups-{at}"
        done = hstu(tmp_path, "backup", "--url", str(url), "--bootstrap", at, settings=settings)
        assert ("180 records read" in done.stdout, done.exit_code) == (True, 0)
        assert next(backups_at(url, settings, ours).newest_first()).cluster == cluster
        assert (done.stderr.startswith(said), bool(done.stderr)) == (True, bool(said))


def test_a_store_or_a_place_of_another_log_is_refused(
    bootstrap: str, settings: StreamSettings, log: Logs, tmp_path: Path
) -> None:
    """A wrong folder, a wrong place, or a wrong Kafka: the backups that are there are left as they are."""
    url, ours = tmp_path / "backups", cluster_id(Kafka(bootstrap), 5.0)
    make_store(tmp_path / "ours", log, 40)
    make_store(tmp_path / "theirs", make_log(60))
    by_hand = ("backup", "--url", str(url), "--bootstrap", bootstrap)
    assert hstu(tmp_path / "ours", *by_hand, settings=settings).exit_code == 0
    files = set(url.rglob("*"))
    refused = hstu(tmp_path / "theirs", *by_hand, settings=settings)
    assert f"The store {partition_path(tmp_path / 'theirs', 0)} is of another log than Kafka has" in refused.output
    unnamed = hstu(tmp_path / "theirs", "backup", "--url", str(url), settings=settings)
    assert (f"partition 0: The backups in {url}" in unnamed.output, unnamed.exit_code) == (True, 1)
    assert "are of the Kafka whose cluster id is" in unnamed.output
    assert set(url.rglob("*")) == files
    for cluster in ("", "theirs"):
        place = tmp_path / f"of-{cluster}"
        with closing(open_store(partition_path(tmp_path / "theirs", 0))) as store:
            save(store, backups_at(place, settings, cluster), tmp_path / "aside")
        refused = hstu(tmp_path / "ours", *by_hand[:2], str(place), *by_hand[3:], settings=settings)
        said = (
            f"another Kafka, whose cluster id is theirs, and this one's is {ours}" if cluster else "of another log than"
        )
        assert (said in refused.output, refused.exit_code) == (True, 1)
        assert next(backups_at(place, settings, cluster).newest_first()).records == 180


def test_a_store_of_topics_that_kafka_lacks_is_refused(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """As one that was made without Kafka is, while the settings name one."""
    make_store(tmp_path, make_log(60))
    refused = hstu(tmp_path, "backup", "--url", str(tmp_path / "b"), "--bootstrap", bootstrap, settings=settings)
    assert ("is of another log than Kafka has" in refused.output, refused.exit_code) == (True, 1)
    assert "--bootstrap ('' for a store that was made without Kafka)" in refused.output
