"""All partitions of a system in memory, fed by key, that can be given more partitions."""

from collections import Counter
from collections.abc import Sequence

from stream.config import StreamSettings
from stream.example import Example
from stream.join.partition import Partition
from stream.rescale.division import Division, new_metas
from stream.schema.ids import id_text, partition_of
from stream.schema.record_time import RESCALED_HEADER
from stream.schema.topics import SourceTopic
from stream.store import layout
from stream.store.layout import LogState
from tests.memory_store import MemoryStore
from tests.oracles import Token, Wire
from tests.stream.join.play import Kafka, stored_tokens, the_examples
from tests.wire import REPLAYED, Record, wire

Timed = tuple[SourceTopic, Wire]


class System:
    """Partitions and what they have sent; a record of every log has the next offset of its topic and partition."""

    def __init__(self, settings: StreamSettings, stores: Sequence[MemoryStore] = ()) -> None:
        self.settings = settings
        self.stores = list(stores) or [MemoryStore({}) for _ in range(settings.partitions)]
        self.sent = [Kafka() for _ in self.stores]
        self.partitions = [Partition(store, number, settings) for number, store in enumerate(self.stores)]
        self._next: Counter[tuple[SourceTopic, int]] = Counter()
        if stores:
            self._next.update({(source, number): 1 for source in SourceTopic for number in range(len(self.stores))})

    def feed(self, events: Sequence[Timed], most: int) -> None:
        """Handle events one by one; a forget goes to every partition."""
        for source, event in events:
            key = id_text(event["user_id"]).encode()
            homes = range(len(self.stores)) if "forget" in event else [partition_of(key, len(self.stores))]
            for number in homes:
                self._handle(source, number, wire(event), key, most)

    def bring_to(self, ts_ms: int, most: int) -> None:
        """Let heartbeats move all partitions to a time, and send all that leaves."""
        for number, partition in enumerate(self.partitions):
            for source in SourceTopic:
                self._handle(source, number, wire({"watermark": ts_ms}), None, most)
            self.sent[number].send(partition)

    def _handle(self, source: SourceTopic, number: int, value: bytes, key: bytes | None, most: int) -> None:
        offset = self._next[source, number]
        self._next[source, number] += 1
        self.partitions[number].handle(source, [Record(offset, value, key)], most)

    def finish(self) -> None:
        """Join all that is left."""
        for number, partition in enumerate(self.partitions):
            while partition.behind:
                partition.advance()
            self.sent[number].send(partition)

    def rescaled(self, partitions: int) -> "System":
        """Return the system with more partitions."""
        stores = [MemoryStore({}) for _ in range(partitions)]
        division = Division(stores)
        for store in self.stores:
            division.take(store)
        metas = [layout.unpack(layout.METAS, layout.META_KEY, store.data[layout.META_KEY]) for store in self.stores]
        logs = [[LogState(0, bytes(16), True) for _ in SourceTopic] for _ in stores]
        for store, meta in zip(stores, new_metas(metas, logs), strict=True):
            store.write([(layout.META_KEY, layout.ENCODER.encode(meta))])
        return System(self.settings.model_copy(update={"partitions": partitions}), stores)

    def tokens(self) -> dict[int, list[Token]]:
        """Return every user's sequence; each user lies in one partition."""
        found = [stored_tokens(store) for store in self.stores]
        assert sum(map(len, found)) == len(set().union(*found))
        return {user: tokens for of_partition in found for user, tokens in of_partition.items()}

    def examples(self) -> list[Example]:
        """Return all examples, those of one user in order."""
        return [example for kafka in self.sent for example in the_examples(kafka)]

    def refused(self) -> Counter[str]:
        """Return how many events were refused, by reason."""
        return sum((Counter(partition.counters.dead_letters) for partition in self.partitions), Counter())


def beginning(offset: int = 0) -> Record:
    """Return a record that begins a log after a rescale."""
    return Record(offset, wire({"watermark": 0}), None, 0, (*REPLAYED, (RESCALED_HEADER, b"old, 2 partitions")))
