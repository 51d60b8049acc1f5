"""The outbox: a record can be sent once it is committed, and until Kafka has acknowledged it."""

from stream.join.erasure import Erasure
from stream.join.outbox import Outbox
from tests.memory_store import MemoryStore


def test_a_record_can_be_sent_only_once_it_is_committed() -> None:
    """What a failed batch has put in would have other numbers, or other content, after a restart."""
    store = MemoryStore({})
    outbox = Outbox(store, 7, Erasure(store))
    outbox.put("examples", b"u", b"one")
    outbox.put("dead-letters", None, b"two", [("reason", b"late")])
    assert (outbox.unsent(), len(outbox), outbox.last) == ([], 0, 9)
    store.write(outbox.write_back())
    assert outbox.unsent() == []
    assert outbox.bytes == 0
    outbox.committed()
    assert outbox.bytes == len(b"onetwo")
    assert [(out.number, out.topic, out.key, out.value, out.headers) for out in outbox.unsent()] == [
        (8, "examples", b"u", b"one", []),
        (9, "dead-letters", None, b"two", [("reason", b"late")]),
    ]
    assert list(outbox.write_back()) == []


def test_what_kafka_has_not_acknowledged_is_there_after_a_restart() -> None:
    """In order; what it has acknowledged is gone from the store."""
    store = MemoryStore({})
    outbox = Outbox(store, 0, Erasure(store))
    for value in (b"1", b"2", b"3"):
        outbox.put("examples", None, value)
    store.write(outbox.write_back())
    outbox.committed()
    outbox.sent(1)
    assert [out.value for out in outbox.unsent()] == [b"2", b"3"]
    again = Outbox(store, 3, Erasure(store))
    assert again.unsent() == outbox.unsent()
    assert again.bytes == outbox.bytes == 2
    again.sent(3)
    assert (len(again), again.bytes, store.data) == (0, 0, {})
