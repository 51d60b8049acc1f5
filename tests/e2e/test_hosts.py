"""Two hosts, each with a worker, a server and a data directory of its own: both servers answer for every user."""

import asyncio
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from sim.config import load
from sim.main import Context
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from tests.http_server import serving
from tests.kafka import KafkaForTests
from tests.kafka_logs import until
from tests.served import write_model
from tests.worker_process import START_MS, WorkerProcess, make_events, send


@pytest.mark.slow
def test_both_servers_answer_for_every_user(kafka: KafkaForTests, topic_prefix: str, tmp_path: Path) -> None:
    """Over HTTP, each user's history is the same on both; without the token half of the users get 503."""
    token, hosts, partitions = tmp_path / "token", [tmp_path / "a", tmp_path / "b"], 2
    token.write_text("a secret of the cluster")
    settings = StreamSettings(
        topic_prefix=topic_prefix, partitions=partitions, idle_timeout_s=0, peer_token_file=str(token), peer_timeout_s=5
    )
    create_topics(Kafka(kafka.bootstrap), settings)
    for host in hosts:
        write_model(host / "snapshots" / "silu")
    events = make_events(60, users=12)
    users = sorted({event["user_id"] for wires in events.values() for event in wires})

    def sequences(host: Path, **changes: str) -> object:
        flags = {f"stream.{name}": value for name, value in {**settings.model_dump(), **changes}.items()}
        return Context(None).sequences(load(None, {"bootstrap": kafka.bootstrap, "data_dir": host, **flags}))

    def statuses(client: httpx.Client) -> list[int]:
        return [client.get("/topk", params={"user": user, "k": 3}).status_code for user in users]

    def histories(client: httpx.Client) -> list[object]:
        return [client.get("/history", params={"user": user}).json().get("events") for user in users]

    async def run() -> None:
        with ExitStack() as stack:
            workers = [stack.enter_context(WorkerProcess(settings, host, kafka.bootstrap)) for host in hosts]
            await until(
                lambda: all(len(worker.places().get("actions", ())) == 1 for worker in workers), "both workers", 120
            )
            await send(kafka.bootstrap, settings, events, end=False, beat_ms=START_MS)
            readers = [stack.enter_context(closing(sequences(host))) for host in hosts]  # type: ignore[type-var]
            one, other = (
                stack.enter_context(serving(host, reader)) for host, reader in zip(hosts, readers, strict=True)
            )
            for client in (one, other):
                await until(lambda: set(statuses(client)) == {200}, "answers for all users", 90)  # noqa: B023
            await until(lambda: histories(one) == histories(other), "the same histories", 90)
            assert all(histories(one))
            alone = stack.enter_context(closing(sequences(hosts[0], peer_token_file="")))  # type: ignore[type-var]
            assert set(statuses(stack.enter_context(serving(hosts[0], alone)))) == {200, 503}

    asyncio.run(run())
