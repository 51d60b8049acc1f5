"""The barrier: all partitions handled, sent, and at one time."""

import pytest

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.join.partition import Partition
from stream.rescale.barrier import meta_of, refuse_different_times
from stream.schema.record_time import Headers
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.memory_store import MemoryStore
from tests.stream.join.play import Kafka
from tests.wire import REPLAYED, Record, action, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0)


def store_at(ts_ms: int, headers: Headers = (), *, sent: bool = True) -> MemoryStore:
    """Return a store that heartbeats have brought to a time."""
    store = MemoryStore({})
    partition = Partition(store, 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1)), timestamp=ts_ms, headers=headers)])
    for source in SourceTopic:
        partition.handle(source, [Record(1, wire({"watermark": ts_ms}), None, ts_ms, headers)])
    if sent:
        Kafka().send(partition)
    return store


def test_a_store_with_results_that_kafka_lacks_is_refused() -> None:
    """They would be lost, since the examples begin anew; so is one that knows nothing."""
    assert meta_of(0, store_at(5000), 1).watermark_ms == 5000
    with pytest.raises(StoreError, match=r"partition 0 has results that Kafka has not got yet: .*stop it by SIGTERM"):
        meta_of(0, store_at(5000, sent=False), 1)
    with pytest.raises(StoreError, match=r"partition 0 was made for 1 partitions, but the settings say 2"):
        meta_of(0, store_at(5000), 2)
    with pytest.raises(StoreError, match="partition 3 has handled nothing yet"):
        meta_of(3, MemoryStore({}), 1)


def test_a_store_that_has_not_joined_all_is_refused() -> None:
    """A worker was stopped in a long turn: its examples are of before the barrier, and would be passed over."""
    for left, most in (("waiting", 1), ("due", 10**9)):
        store = MemoryStore({})
        partition = Partition(store, 0, SETTINGS.model_copy(update={"gather_targets": 1, "gather_s": 1}))
        clicks = [action("u", f"i{n}", 1000 + n) for n in range(3)]
        partition.handle(SourceTopic.ACTIONS, [Record(n, wire(click)) for n, click in enumerate(clicks)])
        for source in SourceTopic:
            partition.handle(source, [Record(9, wire({"watermark": 50_000}))], most)
        Kafka().send(partition)
        if left == "due":
            assert meta_of(0, store, 1).watermark_ms == 50_000
            store.write([(layout.timer_key(49_999, 0, 7, 1), b"")])
        with pytest.raises(StoreError, match="partition 0 has results that Kafka has not got yet"):
            meta_of(0, store, 1)


@pytest.mark.parametrize(
    ("headers", "idle_s", "way"),
    [
        ((), 30, r"let the workers run for 60 s: their heartbeats do that"),
        ((), 0, r"set stream\.idle_timeout_s, and let the workers run"),
        (REPLAYED, 30, r"let the replay that was stopped come to its end"),
    ],
)
def test_partitions_at_different_times_are_refused(headers: Headers, idle_s: float, way: str) -> None:
    """New partitions hold users of several; the sentence says how they come to one time."""
    metas = [meta_of(0, store_at(ts_ms, headers), 1) for ts_ms in (7000, 5500, 7000)]
    with pytest.raises(StoreError, match=rf"at one time, and partition 1 is 1\.500 s behind the furthest: .*{way}"):
        refuse_different_times(metas, idle_s)
    refuse_different_times(metas[::2], idle_s)
