"""Events through the joiner's cores in one process: where they go, what comes out, and what can be read back."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from sim.replay.in_process_join import InProcessJoin, LocalRecord
from sim.sources.source import SourceEvent, action, heartbeats
from stream.config import StreamSettings
from stream.schema.ids import partition_of
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import ITEMS

USERS = [f"u{number}" for number in range(12)]
PARTITIONS = 3
Offered = tuple[str, int, list[LocalRecord]]


@pytest.fixture
def joined(tmp_path: Path) -> tuple[InProcessJoin, list[Offered]]:
    """A click of each user, a record of items, one event that cannot be read, and the end of time."""
    offered: list[Offered] = []

    def offer(topic: str, partition: int, records: Sequence[LocalRecord]) -> None:
        offered.append((topic, partition, list(records)))

    joining = InProcessJoin(tmp_path, StreamSettings(partitions=PARTITIONS), offer)
    joining.feed([SourceEvent(ITEMS, b"i", b"{}", 1_000), SourceEvent("actions", b"u0", b"nonsense", 1_000)])
    joining.feed(action(user, "i", "click", 1_000 + n) for n, user in enumerate(USERS))
    joining.feed(heartbeats(END_OF_TIME_MS, PARTITIONS))
    return joining, offered


def test_each_user_is_joined_in_the_partition_of_its_key(joined: tuple[InProcessJoin, list[Offered]]) -> None:
    """As Kafka's murmur2 says; offsets of a topic and partition count from 0 without a hole."""
    joining, offered = joined
    found = Counter(p for topic, p, records in offered for r in records if topic == "examples" and r.key)
    assert found == Counter(partition_of(user.encode(), PARTITIONS) for user in USERS)
    for topic in ("examples", ITEMS):
        for number in range(PARTITIONS):
            offsets = [r.offset for t, p, records in offered if (t, p) == (topic, number) for r in records]
            assert offsets == list(range(len(offsets)))
    joining.close()


def test_sequences_and_dead_letters_can_be_asked_for(joined: tuple[InProcessJoin, list[Offered]]) -> None:
    """Tokens of a user, None where the user is unknown; refused events by their reason."""
    joining, _ = joined
    tokens = joining.tokens("u3", 10)
    assert tokens is not None
    assert len(tokens) == 1
    assert joining.tokens("nobody", 10) is None
    assert sum(joining.refused().values()) == 1
    joining.close()
