"""The topics of the stream, by their names without the configured prefix.

The three sources are joined: a user's events lie in the same partition of each. `items` is the catalogue, which
trainers and servers read. Workers write `examples` and `dead-letters`.
"""

from enum import IntEnum
from typing import Final


class SourceTopic(IntEnum):
    """The topics that a worker joins; the value numbers them in stores and messages."""

    IMPRESSIONS = 0
    ACTIONS = 1
    ATTRIBUTES = 2

    @property
    def topic(self) -> str:
        """The topic's name, without the configured prefix."""
        return self.name.lower()


EVENTS: Final = tuple(source.topic for source in SourceTopic)
ITEMS: Final = "items"
EXAMPLES: Final = "examples"
DEAD_LETTERS: Final = "dead-letters"
ITEMS_HEARTBEAT_KEY: Final = b"\x00heartbeat"  # fixed, so that compaction keeps the last heartbeat of a partition
ALL: Final = (*EVENTS, ITEMS, EXAMPLES, DEAD_LETTERS)
