"""A rescale that is repeated, and one that is only looked at: what is said is of these topics and stores."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.rescale.rescale import Rescale
from stream.store import layout
from stream.store.rocksdb import RocksStore, open_store, partition_path
from tests.memory_store import CrashError
from tests.stream.rescale.workers import HALF_MS, Workers, more
from tests.worker_process import make_events, send


@pytest.fixture
def workers(bootstrap: str, old: StreamSettings, tmp_path: Path) -> Workers:
    """A system that has come to the end of its log."""
    asyncio.run(send(bootstrap, old, make_events(20), end=False, beat_ms=HALF_MS))
    found = Workers(bootstrap, old, tmp_path)
    found.work()
    return found


def looked_at(work: Rescale) -> list[str]:
    said: list[str] = []
    work.look(said.append)
    return said


def test_stores_that_were_divided_for_other_topics_are_not_these(
    workers: Workers, old: StreamSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after a kill in the swap nor at the end; the command of then goes on, and workers change nothing."""
    new = more(old)
    never, other = (new.model_copy(update={"topic_prefix": f"{name}-{old.topic_prefix}"}) for name in ("never", "x"))
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target.name == "store":
            raise CrashError
        return rename(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", killed)
        with pytest.raises(CrashError):
            workers.rescale(new)
    for to in (never, never):
        with pytest.raises(StoreError, match=r"for topics of another prefix than 'never-.*topic-prefix of then"):
            workers.work_of(to).finish()
    assert looked_at(workers.work_of(new)) == [
        "The stores are divided; the same command without --dry-run puts them in their place."
    ]
    assert workers.rescale(new)
    create_topics(Kafka(workers.bootstrap), other)
    for to in (never, other):
        with pytest.raises(StoreError, match="for topics of another prefix"):
            workers.rescale(to)
        with pytest.raises(StoreError, match="for topics of another prefix"):
            workers.work_of(to).look(print)
    after = Workers(workers.bootstrap, new, workers.data_dir)
    asyncio.run(send(workers.bootstrap, new, make_events(5), end=False, beat_ms=HALF_MS))
    after.work()
    assert workers.rescale(new)
    with pytest.raises(StoreError, match="for topics of another prefix"):
        workers.rescale(other)


def test_a_dry_run_says_what_is_in_the_way(workers: Workers, old: StreamSettings) -> None:
    """Stores that an earlier rescale has kept as well; a plan is printed of the stores that are meant alone."""
    new = more(old)
    kept = workers.work_of(new).kept
    kept.mkdir()
    said: list[str] = []
    with pytest.raises(StoreError, match=f"^{kept} is there from an earlier rescale; move it away"):
        workers.work_of(new).look(said.append)
    assert [line.split(":")[0] for line in said] == ["From 2 to 3 partitions"]
    kept.rmdir()
    with pytest.raises(StoreError, match="made for 2 partitions, but the settings say 1"):
        Workers(workers.bootstrap, old.model_copy(update={"partitions": 1}), workers.data_dir).work_of(new).look(print)
    assert workers.rescale(new)
    assert looked_at(workers.work_of(new)) == ["It is done already."]


def test_no_copy_of_a_user_is_left_where_it_is_killed_in_its_sample(
    workers: Workers, old: StreamSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to see how long it takes has as many bytes, and none of a user's; beside the data directory."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    store = open_store(partition_path(tmp_path, 0))
    kept = [data for pair in store.scan(layout.USER) for data in pair]
    store.close()

    def killed(at: Callable[[RocksStore], None]) -> Callable[[RocksStore], None]:
        def flush(store: RocksStore) -> None:
            at(store)
            written = [path for path in temporary.rglob("*") if path.is_file()]
            bytes_in.extend(path.read_bytes() for path in written)
            raise CrashError

        return flush

    bytes_in: list[bytes] = []
    monkeypatch.setattr(RocksStore, "flush", killed(RocksStore.flush))
    with pytest.raises(CrashError):
        workers.work_of(more(old)).look(print)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"store", "temporary"}
    assert sum(map(len, bytes_in)) > 1000
    assert len(kept) >= 2
    assert not any(each in data for data in bytes_in for each in kept)
