"""Play events through a partition in memory, and look at what comes out."""

import numpy as np

from stream.config import StreamSettings
from stream.example import Example, Heartbeat, content, decode
from stream.join.partition import Partition
from stream.schema.tokens import END_OF_TIME_MS, TOKEN_DTYPE
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, SourceTopic
from stream.store import layout
from stream.store.layout import Outgoing
from tests.memory_store import MemoryStore
from tests.oracles import Token, Wire
from tests.wire import Record, wire

SETTINGS = StreamSettings(
    partitions=1, lateness_s=30, action_window_s=6, gather_targets=3, gather_s=2, example_tokens=16, max_slate=8
)


END = wire({"watermark": END_OF_TIME_MS})
START_MS = 1_700_000_000_000


def logs_of(events: dict[str, list[Wire]]) -> dict[SourceTopic, list[Record]]:
    """Return each source's log, ended by a heartbeat."""
    return {
        source: [Record(i, value) for i, value in enumerate([*map(wire, events.get(source.topic, [])), END])]
        for source in SourceTopic
    }


class Kafka:
    """What left through the outbox, repeats included."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []

    def send(self, partition: Partition) -> None:
        box = partition.outbox.unsent()
        self.records += box
        if box:
            partition.outbox.sent(box[-1].number)

    def examples(self) -> dict[int, bytes]:
        """Return the contents of the examples by serial; a repeat must be the same to the byte."""
        found: dict[int, bytes] = {}
        for record in self.records:
            if record.topic == EXAMPLES and isinstance(message := decode(record.value), Example):
                assert found.setdefault(message.serial, record.value) == record.value
        return {serial: content(message) for serial, message in found.items()}

    def beats(self) -> list[Heartbeat]:
        """Return the heartbeats in the order in which they were sent."""
        ours = [decode(record.value) for record in self.records if record.topic == EXAMPLES]
        return [message for message in ours if isinstance(message, Heartbeat)]

    def dead_letters(self) -> list[dict[str, str]]:
        letters = {r.number: dict(r.headers) for r in self.records if r.topic == DEAD_LETTERS}
        return [{name: text.decode() for name, text in headers.items()} for headers in letters.values()]


def play(events: dict[str, list[Wire]], settings: StreamSettings = SETTINGS) -> tuple[Partition, Kafka, MemoryStore]:
    """Play each topic in one batch."""
    store, kafka = MemoryStore({}), Kafka()
    partition = Partition(store, 0, settings)
    for source, log in logs_of(events).items():
        partition.handle(source, log)
    kafka.send(partition)
    return partition, kafka, store


def stored_tokens(store: MemoryStore) -> dict[int, list[Token]]:
    """Read every user's sequence back from its blocks."""
    tokens: dict[int, list[Token]] = {}
    for key, value in store.scan(layout.TOKENS):
        user = int.from_bytes(key[1:9])
        tokens.setdefault(user, []).extend(Token(*row.tolist()) for row in np.frombuffer(value, TOKEN_DTYPE))
    return tokens


def the_examples(kafka: Kafka) -> list[Example]:
    found = {e.serial: e for r in kafka.records if r.topic == EXAMPLES and isinstance(e := decode(r.value), Example)}
    return list(found.values())
