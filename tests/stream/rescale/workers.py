"""The workers of a system on a real Kafka, run in this process, that can be given more partitions."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from stream.config import StreamSettings
from stream.example import Example
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.rescale.rescale import Rescale
from stream.schema.topics import ITEMS, ITEMS_HEARTBEAT_KEY, SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.kafka_logs import fill, read
from tests.oracles import Token
from tests.stream.join.play import Kafka as Sent, stored_tokens, the_examples
from tests.wire import REPLAYED, wire
from tests.worker_process import START_MS

HALF_MS = START_MS + 30_000


class Workers:
    """Handle what is in Kafka, in this process; examples stay here."""

    def __init__(self, bootstrap: str, settings: StreamSettings, data_dir: Path) -> None:
        self.bootstrap, self.settings, self.data_dir = bootstrap, settings, data_dir
        self.examples: list[Example] = []

    def work(self, *, sent: bool = True) -> None:
        """Handle everything; keep the results in the outbox unless they are sent."""
        logs = {
            source: asyncio.run(
                read(self.bootstrap, self.settings.topic_prefix + source.topic, self.settings.partitions)
            )
            for source in SourceTopic
        }
        for number in range(self.settings.partitions):
            partition = Partition(open_store(partition_path(self.data_dir, number)), number, self.settings)
            for source, log in logs.items():
                partition.handle(source, log[number])
            if sent:
                kafka = Sent()
                kafka.send(partition)
                self.examples += the_examples(kafka)
            partition.close()

    def tokens(self) -> dict[int, list[Token]]:
        """Return the sequences of all users; each lies in one store."""
        found: dict[int, list[Token]] = {}
        for number in range(self.settings.partitions):
            store = open_store(partition_path(self.data_dir, number))
            tokens = stored_tokens(store)  # type: ignore[arg-type]
            assert not found.keys() & tokens.keys()
            found |= tokens
            store.close()
        return found

    def rescale(self, to: StreamSettings, say: Callable[[str], None] = print) -> bool:
        """Make the partitions and topics of other settings."""
        work = self.work_of(to)
        return work.finish() or work.run(lambda plan: True, say)

    def work_of(self, to: StreamSettings) -> Rescale:
        """Return what makes the partitions and topics of other settings."""
        return Rescale(Kafka(self.bootstrap), self.settings, self.data_dir, to.partitions, to.topic_prefix)


def more(settings: StreamSettings, partitions: int = 3) -> StreamSettings:
    return settings.model_copy(
        update={"partitions": partitions, "topic_prefix": f"{partitions}-{settings.topic_prefix}"}
    )


async def fill_items(bootstrap: str, settings: StreamSettings) -> None:
    """Write titles of six items in one partition after the other, corrections, a tombstone, and heartbeats."""
    topic = settings.topic_prefix + ITEMS
    for n in range(9):
        item, ts_ms = f"i{n % 6}", START_MS + n * 1000
        value = None if n == 7 else wire({"item_id": item, "title": f"t{n}", "ts": ts_ms})
        headers = () if n == 7 else (("hstu-replay", b"%d" % ts_ms),)
        await fill(bootstrap, topic, [(n % 6 % 2, item.encode(), value, 0)], headers=headers)
    beats = [(number, ITEMS_HEARTBEAT_KEY, wire({"watermark": START_MS}), 0) for number in range(2)]
    await fill(bootstrap, topic, beats, headers=REPLAYED)
