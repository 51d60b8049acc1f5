from collections.abc import Sequence

import pytest

from model.errors import ModelError
from model.trainer.inbox import Inbox
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.watermark import SourceTopic
from tests.factories import Record as Example
from tests.memory_store import MemoryStore
from tests.wire import Record, action, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0, gather_targets=1, gather_s=0)
LOG = [Record(offset, wire(action(f"u{offset % 7}", f"i{offset}", 1 + 1000 * offset))) for offset in range(200)]
IDLE = (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES)


def examples_of(log: Sequence[Record]) -> list[bytes]:
    """Give what a new store makes of a log that may have lost its beginning, in batches as they come."""
    partition = Partition(MemoryStore({}), 0, SETTINGS)
    partition.start_at(SourceTopic.ACTIONS, log[0].offset)
    for start in range(0, len(log), 30):
        partition.handle(SourceTopic.ACTIONS, log[start : start + 30], IDLE)
    return [outgoing.value for outgoing in partition.outbox()]


def offered(intake: Inbox, messages: Sequence[bytes]) -> int:
    """Let a trainer read these behind what it has; give how many examples wait now."""
    first = intake.position("examples", 0)
    intake.offer("examples", 0, [Example(first + at, None, message, 0) for at, message in enumerate(messages)])
    return intake.merge.pending


def test_a_store_made_anew_from_the_whole_log_is_gone_on_from() -> None:
    """Its examples are those of before, to the serial: repeats, and then new ones."""
    intake = Inbox(1, 0)
    before = offered(intake, examples_of(LOG[:150]))
    assert offered(intake, examples_of(LOG)) == before + 50
    assert intake.merge.repeats == before


@pytest.mark.parametrize("lost", [1, 120, 160])
def test_a_store_made_anew_from_what_is_left_of_the_log_stops_the_trainer(lost: int) -> None:
    """Its new examples have old serials; none of them is dropped as a repeat in silence."""
    intake = Inbox(1, 0)
    before = offered(intake, examples_of(LOG[:150]))
    with pytest.raises(ModelError, match=r"store of partition 0 was made again.*another --name"):
        offered(intake, examples_of(LOG[lost:]))
    assert intake.merge.pending == before
