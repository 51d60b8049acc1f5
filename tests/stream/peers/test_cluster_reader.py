"""Two hosts: each one's reader finds every user, whichever worker has the partition, also after it has moved."""

import asyncio
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.forget import forget_user
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


def test_a_host_whose_worker_has_stopped_does_not_answer_from_what_it_left(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """A user who was forgotten since is there no more; without a token nobody else is asked, and the sentence says why.

    Where Kafka does not answer, the store is read as it is, and that is said.
    """
    alone = settings.model_copy(update={"peer_token_file": ""})
    events, hosts = make_events(40, users=6), [tmp_path / "a", tmp_path / "b"]
    for host in hosts:
        host.mkdir()
    users = {event["user_id"] for wires in events.values() for event in wires}

    def of(host: Path, cluster: str = bootstrap) -> dict[str, int | None]:
        """Return how many tokens the users have whom a host answers for."""
        found: dict[str, int | None] = {}
        with closing(open_sequences(host, alone, Kafka(cluster))) as reader:
            for user in users:
                with suppress(StoreError):
                    tokens = reader.tokens(user, 10_000)
                    found[user] = None if tokens is None else len(tokens)
        return found

    async def run() -> None:
        with WorkerProcess(alone, hosts[0], bootstrap) as a, WorkerProcess(alone, hosts[1], bootstrap) as b:
            await until(lambda: len(a.places().get("actions", ())) == len(b.places().get("actions", ())) == 1, "both")
            await send(bootstrap, alone, events, end=False, beat_ms=START_MS)
            await until(lambda: all(map(all, [of(host).values() for host in hosts])), "both have all their events")
            await until(
                lambda: len(of(hosts[0]) | of(hosts[1])) == len(users), "stores that are open are answered from"
            )
            left = of(hosts[1])
            user = next(iter(left))
            assert b.stop() == 0, b.says
            assert of(hosts[1]) == left, "nobody has read more yet"
            await until(lambda: len(a.places().get("actions", ())) == PARTITIONS, "the other worker has both")
            forget_user(Kafka(bootstrap), alone, user, int(time.time() * 1000))
            await until(lambda: not of(hosts[1]).keys() & left.keys(), "the store that was left")
            await until(lambda: of(hosts[0])[user] is None, "the user is forgotten")
            with closing(open_sequences(hosts[1], alone, Kafka(bootstrap))) as reader:
                with pytest.raises(StoreError, match=r"was left: no worker of this host.*token_file.*Without boot"):
                    reader.tokens(user, 5)
                assert (user in reader.first_users(100), reader.problem) == (False, "")
            with closing(open_sequences(hosts[1], alone, Kafka("127.0.0.1:1"))) as reader:
                assert reader.tokens(user, 5) is not None
                assert reader.problem == "Which worker has which partition is not known"
            with (  # the other worker tells nobody where it is
                closing(open_sequences(hosts[1], settings, Kafka(bootstrap))) as reader,
                pytest.raises(StoreError, match="was left"),
            ):
                reader.tokens(user, 5)

    asyncio.run(run())
