"""The `hstu` command: the one place that joins stream/, model/ and sim/.

Each verb lives in the cli.py of its folder and imports what it needs when it runs, so that `hstu --help` is quick, and
so that a worker needs none of the packages that an extra brings.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

import model.cli
import model.query.context
import sim.cli
import stream.backup.cli
import stream.cli
import stream.operations.cli
from sim.errors import SimError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.config import Settings
    from stream.kafka.connection import Kafka
    from stream.peers.cluster_reader import Reader

# Packages that come with an extra, by the names under which they are imported.
PACKAGES: Final = {
    "torch": "PyTorch",
    "numba": "Numba",
    "llvmlite": "llvmlite",
    "safetensors": "safetensors",
    "fastapi": "FastAPI",
    "starlette": "Starlette",
    "uvicorn": "Uvicorn",
    "jinja2": "Jinja2",
    "matplotlib": "Matplotlib",
    "scipy": "SciPy",
}
# What these write is made to be shown; that of others, histories, weights, Kafka's log, is its owner's alone.
SHOWN: Final = ("compare", "scenarios")
# The extra of pyproject.toml that brings all that a verb may need; the others need none.
EXTRAS: Final = {
    "train": "train",
    "replay": "train",
    "serve": "serve",
    "query": "serve",
    "snapshots": "serve",
    "warmup": "train",
    "compare": "compare",
    "scenarios": "compare",
    "demo": "all",
}


class Verbs(TyperGroup):
    """The verbs of `hstu`. One that lacks a package names the extra that brings it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            SimError: A package of an extra is not installed.
        """
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            package, verb = (error.name or "").split(".")[0], ctx.invoked_subcommand
            if package not in PACKAGES or find_spec(package) or verb not in EXTRAS:
                raise
            line = f"pip install 'hstu-stream[{EXTRAS[verb]}]'"
            raise SimError(f"hstu {verb} needs {PACKAGES[package]}, which is not installed: {line}.") from error


app = typer.Typer(
    name="hstu",
    cls=Verbs,
    help="An HSTU recommender that learns while the stream runs: events from Kafka, sequences in RocksDB, snapshots "
    "that answer. Settings: hstu.toml, then HSTU_* variables, then flags.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True)
class Context:
    """What every verb gets as ctx.obj: a way to the settings, to Kafka, and to the sequences in the stores."""

    config: Path | None

    def load(self, flags: dict[str, object] | None = None) -> "Settings":
        """Return the settings: file, environment, then these flags by dotted names; None means not given."""
        from sim.config import load

        return load(self.config, flags)

    def kafka(self, settings: "Settings") -> "Kafka":
        """Return the cluster that the settings name; a sentence is raised if none is named or none answers."""
        from stream.kafka.bootstrap import check_reachable, require_kafka

        kafka = require_kafka(settings.bootstrap, settings.kafka)
        check_reachable(kafka)
        return kafka

    def sequences(self, settings: "Settings") -> "Reader":
        """Return a reader of users' sequences: under the data directory, and by the workers of other hosts."""
        from stream.peers.cluster_reader import open_sequences

        kafka = None
        if settings.bootstrap:
            from stream.kafka.bootstrap import require_kafka

            kafka = require_kafka(settings.bootstrap, settings.kafka)
        return open_sequences(settings.data_dir, settings.stream, kafka)

    def letters(self, settings: "Settings") -> "Callable[[int], list[dict[str, Any]]] | None":
        """Return what reads the last dead letters, newest first; None where no Kafka is named."""
        if not settings.bootstrap:
            return None
        from stream.kafka.bootstrap import require_kafka
        from stream.operations.dead_letters import last_letters

        kafka = require_kafka(settings.bootstrap, settings.kafka)

        def read(count: int) -> list[dict[str, Any]]:
            fields = ("id", "reason", "detail", "ts_ms")
            letters = last_letters(kafka, settings.stream, count)
            return [{name: getattr(letter, name) for name in fields} for letter in letters]

        return read

    def titles(self, settings: "Settings") -> "Callable[[str], str | None]":
        """Return what finds an item's title in the snapshot that is served; nothing where there is none."""
        if find_spec("safetensors") is None:
            return lambda item_id: None
        from model.query.titles import read_titles

        return read_titles(settings.data_dir / "snapshots" / settings.serve.name, settings.serve.alias)


if TYPE_CHECKING:  # mypy checks that Context is what each folder's verbs expect
    _CONTRACTS: tuple[
        type[stream.cli.StreamCliContext],
        type[stream.backup.cli.StoreCliContext],
        type[stream.operations.cli.OperationsCliContext],
        type[model.query.context.ModelCliContext],
    ] = (Context, Context, Context, Context)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hstu-stream {version('hstu-stream')}")
        raise typer.Exit


@app.callback()
def _settings(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; default: hstu.toml, if there is one.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Context(config)
    if ctx.invoked_subcommand not in SHOWN:
        before = os.umask(0o077)
        os.umask(before | 0o077)
        ctx.call_on_close(partial(os.umask, before))


for folder in (stream.cli, stream.operations.cli, stream.backup.cli, model.cli, sim.cli):
    folder.add_commands(app)


def main() -> None:
    """Run the command line; what a user can mend is one sentence on stderr and exit code 1."""
    from model.errors import ModelError
    from stream.errors import HstuError
    from stream.schema.printable import printable

    try:
        app()
    except (HstuError, ModelError, SimError) as error:
        print(f"hstu: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        print(
            f"hstu: {printable(str(error.filename))} cannot be used: {error.strerror}; name another place.",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
