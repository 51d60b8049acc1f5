"""Feeds of a comparison: examples and item records in one global order, the same for every contestant.

A recorded log or a scenario goes through the joiner once, in memory, in one partition. The paper's stream needs no
joiner, because a record is an example: its examples are made from the generator's arrays, block by block, so that a
million records fit into memory. They equal the joiner's to the byte (tests/sim/experiment/test_feeds.py).
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from model.data.catalogue import ItemRecord, Tombstone
from model.trainer.inbox import Inbox
from sim.dirichlet.stream import BLOCK, START_MS, STEP_MS, DirichletStream
from sim.replay.in_process import BATCH_EVENTS
from sim.replay.in_process_join import InProcessJoin
from sim.sources.source import Source, replay_events
from stream.config import StreamSettings
from stream.example import Example, Kind, id_key

Entry = Example | ItemRecord | Tombstone
Records = Sequence[ItemRecord | Tombstone]
MicroBatch = tuple[Records, list[Example]]
_CLICK: Final = "click"


class Feed(Protocol):
    """Examples and item records in their order."""

    @property
    def examples(self) -> int:
        """The number of examples."""
        ...

    @property
    def dead_letters(self) -> int:
        """The number of events that the joiner has refused."""
        ...

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Yield the entries after the first `start` examples."""
        ...


class Joined:
    """A source that has gone through the joiner.

    Args:
        source: A finite source.
        settings: Settings of the joiner; the number of partitions is overridden.
    """

    def __init__(self, source: Source, settings: StreamSettings) -> None:
        inbox = Inbox(1, 1)
        self.all: list[Entry] = []
        with tempfile.TemporaryDirectory(prefix="hstu-compare-") as folder:
            joining = InProcessJoin(Path(folder), settings.model_copy(update={"partitions": 1}), inbox.offer)
            events = replay_events(source, 1)
            while batch := list(islice(events, BATCH_EVENTS)):
                joining.feed(batch)
                while (placed := inbox.merge.pop()) is not None:
                    self.all.append(placed.value[0])
            self.dead_letters = sum(joining.refused().values())
            joining.close()
        self._at = [at for at, entry in enumerate(self.all) if isinstance(entry, Example)]

    @property
    def examples(self) -> int:
        """The number of examples."""
        return len(self._at)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Yield the entries after the first `start` examples."""
        yield from self.all[self._at[start - 1] + 1 if start else 0 :]


class WholeRecords:
    """The examples of the paper's stream, one for each record, as the joiner makes them with `whole_records`."""

    dead_letters = 0

    def __init__(self, stream: DirichletStream) -> None:
        self._stream = stream
        self._texts = [str(item) for item in range(stream.settings.items)]
        self._key_I = np.array([id_key(text) for text in self._texts], np.uint64)

    @property
    def examples(self) -> int:
        """The number of examples."""
        return self._stream.settings.records

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Yield the entries after the first `start` examples."""
        for first in range(start // BLOCK * BLOCK, self.examples, BLOCK):
            rows = self._stream.records(first, first + BLOCK).items
            for record in range(max(first, start), first + len(rows)):
                yield self._example(record, rows[record - first])

    def _example(self, record: int, items: np.ndarray) -> Example:
        length = len(items)
        at = np.arange(length, dtype=np.int32)
        ts_ms = START_MS + (np.int64(record) * length + at) * STEP_MS
        clicks = np.full(length, id_key(_CLICK), np.uint64)
        distinct = list(dict.fromkeys(items.tolist()))
        texts = [self._texts[item] for item in distinct]
        keys = self._key_I[distinct]
        return Example(
            *(0, record + 1, int(ts_ms[-1]), id_key(str(record)), 0),
            keys=self._key_I[items],
            actions=clicks,
            ts_ms=ts_ms,
            kinds=np.full(length, Kind.ACTION, np.uint8),
            positions=at,
            queries=at - 1,
            requests=(at + 1).astype(np.uint32),
            request_ms=ts_ms,
            label_offsets=np.arange(length + 1, dtype=np.uint32),
            labels=clicks,
            text_keys=np.insert(keys, 1, clicks[0]),
            texts=(texts[0], _CLICK, *texts[1:]),
        )


def micro_batches(feed: Feed, size: int, start: int = 0) -> Iterator[MicroBatch]:
    """Yield micro-batches as a trainer cuts them: the item records that precede each, and its examples."""
    records: list[ItemRecord | Tombstone] = []
    batch: list[Example] = []
    for entry in feed.entries(start):
        if isinstance(entry, Example):
            batch.append(entry)
        else:
            records.append(entry)
        if len(batch) == size:
            yield records, batch
            records, batch = [], []
    if batch:
        yield records, batch
