"""Which worker has which partition, and how far it has read, as Kafka's group says.

Both are in the offsets that the workers commit: the addresses are left with them.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.groups import commits
from stream.peers.address import Address, parse_note
from stream.schema.topics import SourceTopic

_LOOK_S: Final = 1.0
_CONNECT_S: Final = 2.0
_log = logging.getLogger("hstu.peers")


class Owners:
    """Follows the group of workers in a thread of its own; safe to ask from several threads.

    Args:
        kafka: The cluster.
        settings: Shared by all workers.
        group: The workers' group.
    """

    def __init__(self, kafka: Kafka, settings: StreamSettings, group: str) -> None:
        self._kafka, self._group = kafka, group
        self._topics = [settings.topic_prefix + source.topic for source in SourceTopic]
        self._noted = settings.topic_prefix + SourceTopic.ACTIONS.topic  # the topic whose offsets have the addresses
        self._owners: dict[int, Address] = {}
        self._read: dict[tuple[str, int], int] = {}
        self._looks = 0
        self.problem = ""
        """Why it is not known who has which partition, in a sentence; empty while Kafka says it."""
        self._looked = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hstu-owners", daemon=True)
        self._thread.start()

    def find(self, partition: int, until_s: float, after: int = 0) -> tuple[Address | None, int]:
        """Return who has a partition, None if nobody ever had, and the number of the look that found it.

        Args:
            partition: The partition.
            until_s: How long to wait, by time.monotonic; what was known before is returned then.
            after: Only a later look than this one counts.
        """
        with self._looked:
            self._looked.wait_for(lambda: self._looks > after, max(0.0, until_s - time.monotonic()))
            return self._owners.get(partition), self._looks

    def read(self, partition: int, until_s: float) -> list[int]:
        """Return how far the workers have read a partition of each source, 0 where nobody has said it.

        Args:
            partition: The partition.
            until_s: How long to wait for the first look, by time.monotonic.
        """
        with self._looked:
            self._looked.wait_for(lambda: self._looks > 0, max(0.0, until_s - time.monotonic()))
            return [self._read.get((topic, partition), 0) for topic in self._topics]

    def close(self) -> None:
        """Stop following."""
        self._stopped.set()
        self._thread.join(_CONNECT_S)

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                with clients.admin_client(self._kafka, _CONNECT_S) as admin:
                    self._look(admin)
                    while not self._stopped.wait(_LOOK_S):
                        self._look(admin)
            except (HstuError, clients.KafkaError) as error:
                self._warn(str(error) if isinstance(error, HstuError) else clients.reason(error))
                self._stopped.wait(_LOOK_S)

    def _warn(self, problem: str) -> None:
        """Log what Kafka says, once until it says something else."""
        if problem != self.problem:
            _log.warning("Which worker of %s has which partition cannot be read: %s", self._group, problem)
        self.problem = problem

    def _look(self, admin: Any) -> None:
        found = commits(admin, self._group)
        owners = {
            number: address
            for (topic, number), committed in found.items()
            if topic == self._noted and (address := parse_note(committed.metadata or ""))
        }
        absent = [topic for topic in self._topics if not any(topic == each for each, _ in found)]
        hidden = _hidden(admin, absent) if absent else ""
        if hidden:
            self._warn(hidden)
        elif self.problem:
            _log.info("Which worker has which partition can be read again")
        with self._looked:
            self.problem = hidden
            self._owners = owners
            self._read = {place: committed.offset for place, committed in found.items()}
            self._looks += 1
            self._looked.notify_all()


def _hidden(admin: Any, topics: Sequence[str]) -> str:
    """Return that Kafka hides some topics from this user, whose offsets are left out without a word; empty if none."""
    denied = clients.TopicAuthorizationFailedError
    hidden = [topic["name"] for topic in admin.describe_topics(topics) if topic["error_code"] == denied.errno]
    return clients.reason(denied(hidden)) if hidden else ""
