"""What the tests of the model's verbs share; their fixtures are in conftest.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

from model.storage.snapshot import list_snapshots
from sim.config import Settings, load
from stream.kafka.connection import Kafka
from tests.served import Memory, tokens_of

Run = Callable[..., Result]


class Context:
    """The context of the main command, with sequences in memory."""

    def __init__(self) -> None:
        self.memory = Memory({"ada": tokens_of("i1", "i1 click", "i3 like")})
        self.kafkas: list[Kafka] = []

    def kafka(self, settings: Settings) -> Kafka:
        self.kafkas.append(Kafka(settings.bootstrap or "default:1"))
        return self.kafkas[-1]

    def load(self, flags: dict[str, Any]) -> Settings:
        return load(None, flags)

    def letters(self, settings: Any) -> None:
        """Return that no Kafka is named."""

    def sequences(self, settings: Settings) -> Memory:
        return self.memory


def ids(directory: Path) -> list[str]:
    return [manifest.id for manifest in list_snapshots(directory)]
