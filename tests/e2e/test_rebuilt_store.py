"""A store whose folder was deleted is built again from Kafka; a trainer goes on from it, or stops."""

from collections.abc import Sequence

import pytest

from model.errors import ModelError
from model.trainer.inbox import Inbox
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from tests.factories import Record as Example
from tests.memory_store import MemoryStore
from tests.wire import Record, action, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0, gather_targets=1, gather_s=0)
LOG = [Record(offset, wire(action(f"u{offset % 7}", f"i{offset}", 1 + 1000 * offset))) for offset in range(200)]


def examples_of(log: Sequence[Record]) -> list[bytes]:
    """Return what a new store makes of a log that may have lost its beginning, read in batches."""
    partition = Partition(MemoryStore({}), 0, SETTINGS)
    partition.start_at(SourceTopic.ACTIONS, log[0].offset)
    for source in (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES):
        partition.handle(source, [Record(0, wire({"watermark": END_OF_TIME_MS}))])
    for start in range(0, len(log), 30):
        partition.handle(SourceTopic.ACTIONS, log[start : start + 30])
    return [outgoing.value for outgoing in partition.outbox.unsent()]


def offered(intake: Inbox, messages: Sequence[bytes]) -> int:
    """Let a trainer read these after what it has; return how many examples wait now."""
    first = intake.position("examples", 0)
    intake.offer("examples", 0, [Example(first + at, None, message, 0) for at, message in enumerate(messages)])
    return intake.merge.pending


def test_a_trainer_goes_on_with_a_store_rebuilt_from_the_whole_log() -> None:
    """Its examples are those of before, to the serial: repeats, and then new ones."""
    intake = Inbox(1, 0)
    before = offered(intake, examples_of(LOG[:150]))
    assert offered(intake, examples_of(LOG)) == before + 50
    assert intake.merge.repeats == before


@pytest.mark.parametrize("lost", [1, 120, 160])
def test_a_store_rebuilt_from_the_rest_of_the_log_stops_the_trainer(lost: int) -> None:
    """Its new examples have old serials; none of them is silently dropped as a repeat."""
    intake = Inbox(1, 0)
    before = offered(intake, examples_of(LOG[:150]))
    with pytest.raises(ModelError, match=r"store was made again.*--weights-from OLD --since \d+"):
        offered(intake, examples_of(LOG[lost:]))
    assert intake.merge.pending == before
