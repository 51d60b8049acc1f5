"""Two hosts: each one's reader finds every user, whichever worker has the partition, also after it has moved."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.peers.cluster_reader import Reader, open_sequences
from stream.store.reader import SequenceReader
from tests.kafka_logs import until
from tests.oracles import join
from tests.worker_process import START_MS, WorkerProcess, events_of_partition, make_events, send

PARTITIONS = 2


@pytest.fixture
def settings(bootstrap: str, topic_prefix: str, tmp_path: Path) -> StreamSettings:
    (tmp_path / "token").write_text("a secret of the cluster")
    made = StreamSettings(
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        idle_timeout_s=0,
        peer_token_file=str(tmp_path / "token"),
        peer_timeout_s=5,
    )
    create_topics(Kafka(bootstrap), made)
    return made


def test_every_server_finds_every_user(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """Two workers with data directories of their own, two readers beside them; then one worker leaves."""
    events, hosts = make_events(120, users=12), [tmp_path / "a", tmp_path / "b"]
    for host in hosts:
        host.mkdir()
    joined = [join(events_of_partition(events, number, PARTITIONS), settings, number) for number in range(PARTITIONS)]
    counts = sorted(len(tokens) for part in joined for tokens in part.tokens.values())
    users = {event["user_id"] for wires in events.values() for event in wires}

    def lengths(reader: Reader) -> list[int]:
        tokens = [reader.tokens(user, 10_000) for user in users]
        return sorted(len(each) for each in tokens if each is not None)

    def complete(reader: Reader) -> bool:
        try:
            return lengths(reader) == counts
        except StoreError:
            return False

    async def run() -> None:
        with WorkerProcess(settings, hosts[0], bootstrap) as a, WorkerProcess(settings, hosts[1], bootstrap) as b:
            await until(lambda: len(a.places().get("actions", ())) == len(b.places().get("actions", ())) == 1, "both")
            await send(bootstrap, settings, events, end=False, beat_ms=START_MS)
            one, other = (open_sequences(host, settings, Kafka(bootstrap)) for host in hosts)
            with closing(one), closing(other):
                await until(lambda: complete(one), "all users on the first host")
                await until(lambda: complete(other), "all users on the second host")
                shown = [len(other.entries(user, 10_000) or ()) for user in users]
                assert sorted(filter(None, shown)) == counts
                with closing(SequenceReader(hosts[0], settings)) as alone:
                    assert not complete(alone)
                assert a.stop() == 0, a.says
                await until(lambda: complete(one), "all users by the worker that is left")
            assert b.stop() == 0, b.says

    asyncio.run(run())
