"""What the model's verbs share: the settings they read, their common options, and the check for an extra.

Only typer is imported here, so that `hstu --help` stays quick.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from model.errors import ModelError

if TYPE_CHECKING:
    from model.config import ModelSettings, ServeSettings, TrainSettings
    from stream.example import TimeBounds

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where stores, checkpoints and snapshots live.")]
Name = Annotated[str | None, typer.Option("--name", help="Trainer whose snapshots are meant.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class TopicSettings(Protocol):
    """The part of table [stream] that a trainer reads."""

    @property
    def topic_prefix(self) -> str:
        """Prefix of every topic and consumer group."""

    @property
    def partitions(self) -> int:
        """Partitions of each topic."""

    @property
    def time_bounds(self) -> "TimeBounds":
        """How far records may move event time."""

    @property
    def example_tokens(self) -> int:
        """Tokens of history in one example at most."""


class ModelCliSettings(Protocol):
    """The part of all settings that the model's verbs read."""

    @property
    def bootstrap(self) -> str:
        """Kafka, as HOST:PORT[,HOST:PORT…]; empty if none is named."""

    @property
    def data_dir(self) -> Path:
        """Where stores, checkpoints and snapshots live."""

    @property
    def stream(self) -> TopicSettings:
        """Table [stream]."""

    @property
    def model(self) -> "ModelSettings":
        """Table [model]."""

    @property
    def train(self) -> "TrainSettings":
        """Table [train]."""

    @property
    def serve(self) -> "ServeSettings":
        """Table [serve]."""


def snapshots_directory(settings: ModelCliSettings) -> Path:
    """Return the folder of the snapshots that `serve`, `query` and `snapshots` read."""
    return settings.data_dir / "snapshots" / settings.serve.name


def require(*packages: str) -> None:
    """Check, without importing them, that packages are installed.

    Raises:
        ModuleNotFoundError: One is not; the `hstu` command says which extra brings it.
    """
    for name in packages:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def check_lengths(model: "ModelSettings", example_tokens: int) -> None:
    """Refuse a model that is too short for its examples, before a long one ends the training.

    Args:
        model: Shape of the recommender.
        example_tokens: Tokens of history in one example at most.

    Raises:
        ModelError: max_len is less than that.
    """
    if model.max_len < example_tokens:
        raise ModelError(
            f"model.max_len = {model.max_len} is less than stream.example_tokens = {example_tokens}, the tokens that "
            "an example may have; raise the first, or lower the second before the log is joined."
        )
