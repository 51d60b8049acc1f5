"""What Faust offers as public settings, as our apps need it: the rest is in faust_driver.py."""

from collections.abc import Iterator, Mapping
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from stream.consumer.progress import PollBatch


class Boot(BootStrategy):
    """What starts with an app: neither Faust's producer nor its web server."""

    enable_kafka_producer = False
    enable_web = False


class Assignor(PartitionAssignor):
    """Faust's assignor (public setting PartitionAssignor), which leaves no member without its share of partitions.

    With standbys, of which our apps have no use, it would: of four partitions 2, 2, 0. They cannot be turned off by
    `table_standby_replicas`: at 0 Faust takes another assignor, which lets partition p have an owner for each topic.
    """

    def __init__(self, app: Any, replicas: int = 0) -> None:
        super().__init__(app, replicas=0)


class Scheduler:
    """Faust's order of delivery (public setting ConsumerScheduler): batches as they were polled, whole."""

    def iterate(self, batches: Mapping[TP, PollBatch]) -> Iterator[tuple[TP, PollBatch]]:
        """Return what one poll brought."""
        return iter(batches.items())


class Schema(faust.Schema[Any, Any]):
    """No codec: the value of a message is a PollBatch already."""

    def loads_key(self, app: Any, message: Any, **options: Any) -> Any:
        """Return the key as it is."""
        return message.key

    def loads_value(self, app: Any, message: Any, **options: Any) -> Any:
        """Return the value as it is."""
        return message.value
