"""The verb `hstu topics rescale`.

Only typer is imported here; the command imports what it needs when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from stream.config import KafkaSettings, StreamSettings
    from stream.rescale.rescale import Plan


class RescaleCliSettings(Protocol):
    """The part of all settings that this verb reads."""

    @property
    def bootstrap(self) -> str:
        """Kafka, as HOST:PORT[,HOST:PORT…]; empty if none is named."""

    @property
    def kafka(self) -> "KafkaSettings":
        """Table [kafka]."""

    @property
    def data_dir(self) -> Path:
        """Where the stores live."""

    @property
    def stream(self) -> "StreamSettings":
        """Table [stream]."""


class RescaleCliContext(Protocol):
    """What this verb gets as ctx.obj from the main command."""

    def load(self, flags: dict[str, object]) -> RescaleCliSettings:
        """Return the settings: file, environment, then flags by dotted names; None means not given."""


def rescale(
    ctx: typer.Context,
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, max=4096, help="Partitions of the new topics; more than now.")
    ],
    topic_prefix: Annotated[str, typer.Option("--topic-prefix", help="Prefix of the new topics' names.")],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would cost, and whether it could be done now; workers may run."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka, as HOST:PORT[,HOST:PORT].")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Holds the stores of all partitions; they are replaced.")
    ] = None,
) -> None:
    """Make topics and stores of more partitions, in which every user goes on; everything has to be stopped.

    The old topics and stores are kept. Killed at any moment, the same command goes on.
    """
    from stream.kafka.bootstrap import check_reachable, require_kafka
    from stream.rescale.rescale import Rescale

    context: RescaleCliContext = ctx.obj
    settings = context.load({"bootstrap": bootstrap, "data_dir": data_dir})
    kafka = require_kafka(settings.bootstrap, settings.kafka)
    check_reachable(kafka)
    work = Rescale(kafka, settings.stream, settings.data_dir, partitions, topic_prefix)

    if dry_run:
        work.look(print)
        return

    def agreed(plan: "Plan") -> bool:
        print(plan)
        return yes or typer.confirm("Go on?")

    if not (work.finish() or work.run(agreed, print)):
        raise typer.Exit(1)
    print(
        f"Done. Set stream.partitions = {partitions} and stream.topic_prefix = {topic_prefix!r}, let producers write "
        "to the new topics, and start workers and servers; a trainer goes on by hstu train --name NEW --weights-from "
        f"OLD. The stores of before are in {work.kept}."
    )
