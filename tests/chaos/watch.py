"""How far the whole pipeline has come: the watermarks in the last heartbeats on topic `examples`."""

import json
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.config import StreamSettings
from stream.example import Heartbeat, decode
from stream.schema.topics import EXAMPLES


class Watch:
    """Follows `examples`; a watermark is the last that was written, which falls where a store is built again."""

    def __init__(self, bootstrap: str, settings: StreamSettings) -> None:
        self._bootstrap = bootstrap
        self._places = [TopicPartition(settings.topic_prefix + EXAMPLES, n) for n in range(settings.partitions)]
        self._last_ms = dict.fromkeys(self._places, 0)
        self.reconnect()

    def reconnect(self) -> None:
        """Follow a log that may have been replaced by another."""
        self._consumer: Any = KafkaConsumer(bootstrap_servers=self._bootstrap)
        self._consumer.assign(self._places)
        self._consumer.seek_to_end()

    def close(self) -> None:
        """Follow no more."""
        self._consumer.close()

    def look(self) -> int:
        """Read what is new; return the smallest watermark of all partitions, in ms."""
        for place, records in self._consumer.poll(timeout_ms=100).items():
            for record in records:
                beat = decode(record.value)
                if isinstance(beat, Heartbeat):
                    self._last_ms[place] = beat.watermark_ms
        return min(self._last_ms.values())


def kept_offsets(data_dir: Path, name: str) -> list[int]:
    """Return, for each partition of `examples`, the first offset that some kept checkpoint of a trainer wants."""
    manifests = [json.loads(path.read_text()) for path in (data_dir / "train" / name).glob("cut-*/manifest.json")]
    marks = [[mark["offset"] for mark in manifest["facts"]["marks"]["examples"]] for manifest in manifests]
    return [min(offsets) for offsets in zip(*marks, strict=True)]
