"""What the model's verbs get from the main command. Only typer is imported here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from model.options import ModelCliSettings

if TYPE_CHECKING:
    from model.dashboard.last_letters import LettersReader
    from model.serving.sequences import Sequences

    class OpenSequences(Sequences, Protocol):
        """Users' sequences that are closed after use."""

        def first_users(self, most: int) -> list[str]:
            """Return the users of this host's stores with the smallest keys."""

        def close(self) -> None:
            """Close the stores."""


class ModelCliContext(Protocol):
    """What the model's verbs get as ctx.obj from the main command."""

    def load(self, flags: dict[str, object]) -> ModelCliSettings:
        """Return the settings: file, environment, then flags by dotted names; None means not given."""

    def kafka(self, settings: Any) -> Any:
        """Return the cluster that the settings name; a sentence is raised if none is named or none answers."""

    def sequences(self, settings: Any) -> "OpenSequences":
        """Return a reader of users' sequences in the store of these settings, which load() has returned."""

    def letters(self, settings: Any) -> "LettersReader | None":
        """Return what reads the last dead letters; None where no Kafka is named."""


def settings_of(
    ctx: typer.Context,
    name: str | None,
    alias: str | None,
    data_dir: Path | None,
    more: dict[str, object] | None = None,
) -> ModelCliSettings:
    """Return the settings of a verb that asks a snapshot, its flags included."""
    context: ModelCliContext = ctx.obj
    return context.load({"serve.name": name, "serve.alias": alias, "data_dir": data_dir, **(more or {})})
