"""The stream's verbs of `hstu`: broker, topics, worker.

Only typer is imported here; a command imports what it needs when it runs, so that `hstu --help` stays quick.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from stream.rescale.cli import rescale

if TYPE_CHECKING:
    from stream.config import KafkaSettings, StreamSettings
    from stream.kafka.connection import Kafka

topics_app = typer.Typer(no_args_is_help=True, help="Make and list the topics in Kafka; give them more partitions.")

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, as HOST:PORT[,HOST:PORT].")]


class StreamCliSettings(Protocol):
    """The part of all settings that the stream's verbs read."""

    @property
    def bootstrap(self) -> str:
        """Kafka, as HOST:PORT[,HOST:PORT…]; empty if none is named."""

    @property
    def kafka(self) -> "KafkaSettings":
        """Table [kafka]: TLS and SASL."""

    @property
    def data_dir(self) -> Path:
        """Where stores, checkpoints and snapshots live."""

    @property
    def stream(self) -> "StreamSettings":
        """Table [stream]."""


class StreamCliContext(Protocol):
    """What the stream's verbs get as ctx.obj from the main command."""

    def load(self, flags: dict[str, object]) -> StreamCliSettings:
        """Return the settings: file, environment, then flags by dotted names; None means not given."""


def add_commands(app: typer.Typer) -> None:
    """Add the stream's verbs."""
    app.command()(broker)
    app.command()(worker)
    topics_app.command("rescale")(rescale)
    app.add_typer(topics_app, name="topics")


def broker(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The node's directory; it is kept. Default: broker/ in the data directory."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 9092,
    sasl_user: Annotated[
        str,
        typer.Option(
            "--sasl-user",
            help="Let only this user in, and others by ACLs. Its password is HSTU_KAFKA__SASL_PASSWORD's, that of the "
            "file HSTU_KAFKA__SASL_PASSWORD_FILE, or one that is made.",
        ),
    ] = "",
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, with a certificate for localhost that is made.")] = False,
) -> None:
    """Run one Apache Kafka node on this machine, until Ctrl-C."""
    from stream.kafka.connection import secret
    from stream.local_broker.node import serve_broker
    from stream.local_broker.secured import Security

    context: StreamCliContext = ctx.obj
    settings = context.load({})
    password = secret(settings.kafka, "sasl.password") if sasl_user else ""
    serve_broker(data_dir or settings.data_dir / "broker", port, Security(sasl_user, password, tls))


def worker(
    ctx: typer.Context,
    bootstrap: Bootstrap = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Holds the stores; workers of one machine share it.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The worker's name in its log.")] = "worker",
) -> None:
    """Join events into sequences and examples, until SIGTERM or Ctrl-C."""
    from stream.kafka.bootstrap import check_reachable, require_kafka
    from stream.worker.agents import run_worker

    context: StreamCliContext = ctx.obj
    settings = context.load({"bootstrap": bootstrap, "data_dir": data_dir})
    kafka = require_kafka(settings.bootstrap, settings.kafka)
    check_reachable(kafka)
    run_worker(settings.stream, settings.data_dir, kafka, name)


@topics_app.command("create")
def create(ctx: typer.Context, bootstrap: Bootstrap = None) -> None:
    """Make the topics that do not exist yet."""
    from stream.kafka.topics import create_topics

    kafka, settings = _kafka_and_settings(ctx, bootstrap)
    for name, state in create_topics(kafka, settings).items():
        print(f"{name}: {state}")


@topics_app.command("list")
def list_(ctx: typer.Context, bootstrap: Bootstrap = None) -> None:
    """List the topics with their partitions and messages."""
    from rich.console import Console
    from rich.table import Table

    from stream.kafka.topics import list_topics

    kafka, settings = _kafka_and_settings(ctx, bootstrap)
    table = Table("topic", "partitions", "messages, about", title=f"Kafka at {kafka}")
    for name, state in list_topics(kafka, settings).items():
        table.add_row(name, *((str(state.partitions), f"{state.messages:,}") if state else ("missing", "")))
    Console().print(table)


def _kafka_and_settings(ctx: typer.Context, bootstrap: str | None) -> tuple["Kafka", "StreamSettings"]:
    from stream.kafka.bootstrap import require_kafka

    context: StreamCliContext = ctx.obj
    settings = context.load({"bootstrap": bootstrap})
    return require_kafka(settings.bootstrap, settings.kafka), settings.stream
