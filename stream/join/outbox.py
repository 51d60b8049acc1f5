"""The outbox of one partition: records for Kafka, kept in the store until Kafka has acknowledged them."""

from collections.abc import Iterator, Sequence

import msgspec

from stream.join.erasure import Erasure
from stream.store import layout
from stream.store.layout import Outgoing
from stream.store.rocksdb import Store


class Outbox:
    """Records for Kafka, in order. A new one can be sent only after the batch that made it has been committed.

    Args:
        store: Holds what an earlier process has not seen acknowledged.
        last: The number of the last record ever put in.
        erasure: Hears what Kafka has.
    """

    def __init__(self, store: Store, last: int, erasure: Erasure) -> None:
        self.last = last
        self.bytes = 0  # of the committed records' values
        self._store, self._erasure = store, erasure
        self._encoder = msgspec.msgpack.Encoder()
        self._uncommitted: list[Outgoing] = []
        self._committed: dict[int, Outgoing] = {}
        for key, value in store.scan(layout.OUTBOX):
            outgoing = self._committed[layout.number_of(key)] = layout.unpack(layout.OUTGOING, key, value)
            self.bytes += len(outgoing.value)

    def __len__(self) -> int:
        return len(self._committed)

    def put(self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Add a record for a topic, which is named without prefix."""
        self.last += 1
        self._uncommitted.append(Outgoing(self.last, topic, key, value, list(headers)))

    def write_back(self) -> Iterator[tuple[bytes, bytes]]:
        """Return what to write so that the store has every record."""
        for outgoing in self._uncommitted:
            yield layout.outbox_key(outgoing.number), self._encoder.encode(outgoing)

    def committed(self) -> None:
        """Let the new records be sent: the store has them."""
        for outgoing in self._uncommitted:
            self._committed[outgoing.number] = outgoing
            self.bytes += len(outgoing.value)
        self._uncommitted = []

    def unsent(self) -> list[Outgoing]:
        """Return the committed records that Kafka has not acknowledged."""
        return list(self._committed.values())

    def sent(self, upto: int) -> None:
        """Forget the records up to this number: Kafka has them."""
        done = [number for number in self._committed if number <= upto]
        for number in done:
            self.bytes -= len(self._committed.pop(number).value)
        self._store.write((layout.outbox_key(number), None) for number in done)
        self._erasure.sent(upto)
