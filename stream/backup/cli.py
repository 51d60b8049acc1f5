"""The verbs `hstu store backup`, `restore` and `verify`: backups by hand, of the stores of this host.

Only typer is imported here; a command imports what it needs when it runs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

if TYPE_CHECKING:
    from stream.backup.partition_backups import PartitionBackups
    from stream.config import KafkaSettings, StreamSettings
    from stream.operations.store_logs import RefuseUnlike

_ASK_S: Final = 5.0

store_app = typer.Typer(no_args_is_help=True, help="Backups of the stores: make, restore, verify.")

_DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Holds the stores.")]
_Url = Annotated[str | None, typer.Option("--url", help="Where the backups lie. Default: stream.backup_url.")]
_Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="Kafka, as HOST:PORT[,HOST:PORT]: the backups name it, if it answers.")
]
_Partitions = Annotated[
    list[int] | None, typer.Option("--partition", help="Only this one; may be given again. Default: all.")
]


class StoreCliSettings(Protocol):
    """The part of all settings that these verbs read."""

    @property
    def data_dir(self) -> Path:
        """Where the stores live."""

    @property
    def bootstrap(self) -> str:
        """Kafka, as HOST:PORT[,HOST:PORT…]; empty where none is named."""

    @property
    def kafka(self) -> "KafkaSettings":
        """Table [kafka]."""

    @property
    def stream(self) -> "StreamSettings":
        """Table [stream]."""


class StoreCliContext(Protocol):
    """What these verbs get as ctx.obj from the main command."""

    def load(self, flags: dict[str, object]) -> StoreCliSettings:
        """Return the settings: file, environment, then flags by dotted names; None means not given."""


def add_commands(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(store_app, name="store")


@store_app.command("backup")
def backup(
    ctx: typer.Context,
    url: _Url = None,
    data_dir: _DataDir = None,
    partition: _Partitions = None,
    bootstrap: _Bootstrap = None,
) -> None:
    """Back up the stores of this host, which no worker may have open; exit code 1 if one could not be."""
    from stream.backup.by_hand import back_up, backups_of
    from stream.errors import StoreError
    from stream.store.rocksdb import partition_path

    context: StoreCliContext = ctx.obj
    settings = context.load({"data_dir": data_dir, "stream.backup_url": url, "bootstrap": bootstrap})
    cluster, refuse_unlike = _kafka(settings)
    backups = backups_of(settings.stream, partition, cluster)
    if not any(partition_path(settings.data_dir, each.number).exists() for each in backups):
        raise StoreError(f"There is no store in {settings.data_dir}; name the folder of the stores by --data-dir.")
    _each(backups, lambda each: (back_up(settings.data_dir, each, refuse_unlike), True))


@store_app.command("restore")
def restore(ctx: typer.Context, url: _Url = None, data_dir: _DataDir = None, partition: _Partitions = None) -> None:
    """Restore stores missing, damaged, or older than their newest whole backup; exit code 1 if one is still missing."""
    from stream.backup.by_hand import restore_newer

    settings, backups = _read(ctx, url, data_dir, partition)
    _each(backups, lambda each: restore_newer(settings.data_dir, each))


@store_app.command("verify")
def verify(ctx: typer.Context, url: _Url = None, partition: _Partitions = None) -> None:
    """Read every byte of every backup; exit code 1 if one is damaged, or a partition has none."""
    from stream.backup.by_hand import verify

    _, backups = _read(ctx, url, None, partition)
    whole = True
    for each in backups:
        for line, good in verify(each):
            print(line)
            whole &= good
    if not whole:
        raise typer.Exit(1)


def _kafka(settings: StoreCliSettings) -> "tuple[str, RefuseUnlike | None]":
    """Return the id of the Kafka that the settings name, and what compares its logs; a line says if it is silent."""
    from stream.errors import BrokerError
    from stream.kafka.bootstrap import require_kafka
    from stream.kafka.clients import cluster_id
    from stream.operations.store_logs import refuse_unlike_logs

    if not settings.bootstrap:
        return "", None
    kafka, why = require_kafka(settings.bootstrap, settings.kafka), "none of its brokers takes requests."
    try:
        if found := cluster_id(kafka, _ASK_S):
            return found, partial(refuse_unlike_logs, kafka, settings.stream)
    except BrokerError as error:
        why = str(error)
    typer.echo(f"Backups without the name of their Kafka: {why}", err=True)
    return "", None


def _each(backups: "list[PartitionBackups]", do: "Callable[[PartitionBackups], tuple[str, bool]]") -> None:
    """Print what comes of each partition; a store or backup that cannot be used keeps the others from nothing."""
    from stream.errors import HstuError

    good = True
    for each in backups:
        try:
            line, done = do(each)
        except HstuError as error:
            line, done = f"partition {each.number}: {error}", False
        print(line)
        good &= done
    if not good:
        raise typer.Exit(1)


def _read(
    ctx: typer.Context, url: str | None, data_dir: Path | None, partitions: list[int] | None
) -> tuple[StoreCliSettings, "list[PartitionBackups]"]:
    """Return the settings and the backups of the partitions meant."""
    from stream.backup.by_hand import backups_of

    context: StoreCliContext = ctx.obj
    settings = context.load({"data_dir": data_dir, "stream.backup_url": url})
    return settings, backups_of(settings.stream, partitions)
