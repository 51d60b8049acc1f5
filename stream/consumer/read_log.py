"""Is Kafka's log of one topic and partition still the one that this store has read? The last record read tells.

Offsets alone cannot: a broker that lost its tail in a power cut gives them out again. So a worker that opens a store
reads its last record once more, before it reads on, and compares digests.
"""

from collections.abc import Sequence

from stream.consumer.progress import WORKERS_WAY_ON
from stream.errors import OtherLogError
from stream.example import Record, fingerprint


class ReadLog:
    """What is remembered of one log.

    Args:
        topic: Its name in Kafka.
        partition: Its partition.
        offset: The offset of the last record read, None before the first.
        digest: The digest of that record.
    """

    def __init__(self, topic: str, partition: int, offset: int | None, digest: bytes) -> None:
        self.offset, self.digest = offset, digest
        self._topic, self._partition = topic, partition

    def note(self, records: Sequence[Record]) -> None:
        """Remember the last of these records, unless it was read before."""
        if records and (self.offset is None or records[-1].offset > self.offset):
            self.offset, self.digest = records[-1].offset, fingerprint(records[-1])

    def refuse_other(self, record: Record) -> None:
        """Compare a record that comes once more with the last one read.

        Raises:
            OtherLogError: It has that one's offset, and is another.
        """
        if record.offset == self.offset and fingerprint(record) != self.digest:
            raise other_log(self._topic, self._partition, record.offset)


def other_log(topic: str, partition: int, offset: int, way_on: str = WORKERS_WAY_ON) -> OtherLogError:
    """Return the refusal of a log whose record at an offset is gone or another than the one that was read.

    Its sentence ends with how the reader goes on (StateOwner.way_on).
    """
    return OtherLogError(
        f"{topic}[{partition}] holds another record at offset {offset} than the one that this data directory has read "
        "there: Kafka has lost the end of its log and written it anew (a power cut), or the topic was made again, or "
        "is compacted, or stream.topic_prefix is another. What came in meanwhile would be skipped in silence. Point to "
        f"the Kafka and the prefix of before; or {way_on}",
        f"{topic}[{partition}] holds another record at offset {offset} than it has read there",
    )
