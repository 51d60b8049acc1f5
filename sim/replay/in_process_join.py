"""Events through the joiner's cores in one process: counters take the place of Kafka.

A record's offset is its number in its topic and partition; time comes from events and heartbeats alone.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.sources.source import SourceEvent
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.ids import partition_of
from stream.schema.record_time import Headers, replay_headers
from stream.schema.topics import EXAMPLES, ITEMS, SourceTopic as Topic
from stream.store.reader import read_tokens
from stream.store.rocksdb import open_store, partition_path

_TOPICS: Final = {topic.topic: topic for topic in Topic}


class LocalRecord(NamedTuple):
    """Has the fields of a Kafka record that the joiner and the trainer read."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()


Offer = Callable[[Literal["examples", "items"], int, Sequence[LocalRecord]], None]


class InProcessJoin:
    """The partitions of one process.

    Args:
        data_dir: The directory of the stores.
        settings: The settings of the joiner.
        offer: Takes the records of one partition of `examples` or `items` in offset order, as a trainer does.
    """

    def __init__(self, data_dir: Path, settings: StreamSettings, offer: Offer) -> None:
        self._offer = offer
        self._settings = settings
        self._stores = [open_store(partition_path(data_dir, number)) for number in range(settings.partitions)]
        self.partitions = [Partition(store, number, settings) for number, store in enumerate(self._stores)]
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._homes: dict[bytes, int] = {}

    def feed(self, events: Iterable[SourceEvent]) -> None:
        """Join events and offer the results; those of one topic and partition must come in order."""
        routed: defaultdict[tuple[str, int], list[LocalRecord]] = defaultdict(list)
        for event in events:
            place = event.topic, self._home(event)
            routed[place].append(self._record(place, event.key, event.value, event.ts_ms))
        for (topic, number), records in routed.items():
            if topic == ITEMS:
                self._offer(ITEMS, number, records)
            else:
                self.partitions[number].handle(_TOPICS[topic], records)
        for partition in self.partitions:
            self._deliver(partition)

    def _home(self, event: SourceEvent) -> int:
        if event.partition is not None:
            return event.partition
        key = event.key or b""
        if key not in self._homes:
            self._homes[key] = partition_of(key, len(self.partitions))
        return self._homes[key]

    def _record(self, place: tuple[str, int], key: bytes | None, value: bytes | None, ts_ms: int) -> LocalRecord:
        offset = self._offsets[place]
        self._offsets[place] = offset + 1
        return LocalRecord(offset, key, value, ts_ms, replay_headers(ts_ms))

    def _deliver(self, partition: Partition) -> None:
        outbox = partition.outbox.unsent()
        place = EXAMPLES, partition.number
        examples = [self._record(place, out.key, out.value, 0) for out in outbox if out.topic == EXAMPLES]
        if examples:
            self._offer("examples", partition.number, examples)
        if outbox:
            partition.outbox.sent(outbox[-1].number)

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return a user's last tokens, waiting events included, as queries read them; None for an unknown user."""
        store = self._stores[partition_of(user.encode(), len(self._stores))]
        return read_tokens(store, user, last)

    def refused(self) -> dict[str, int]:
        """Return the number of dead-letters by reason."""
        total: Counter[str] = Counter()
        for partition in self.partitions:
            total.update(partition.counters.dead_letters)
        return dict(total)

    def close(self) -> None:
        """Close the stores."""
        for partition in self.partitions:
            partition.close()
