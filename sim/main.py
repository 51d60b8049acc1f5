"""The `hstu` command: the one place that joins stream/, model/ and sim/.

Each verb lives in the cli.py of its folder and imports what it needs when it runs, so that `hstu --help` is quick.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import model.cli
import sim.cli
import stream.cli

if TYPE_CHECKING:
    from sim.config import Settings
    from stream.store.reader import SequenceReader

app = typer.Typer(
    name="hstu",
    help="An HSTU recommender that learns while the stream runs: events from Kafka, sequences in RocksDB, snapshots "
    "that answer. Settings: hstu.toml, then HSTU_* variables, then flags.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True)
class Context:
    """What verbs get: a way to the settings, and to sequences in the stores."""

    config: Path | None

    def load(self, flags: dict[str, Any] | None = None) -> "Settings":
        """Read the settings, with these flags above all else; None means not given."""
        from sim.config import load

        return load(self.config, flags)

    def check_kafka(self, bootstrap: str) -> None:
        """Raise a sentence if no Kafka is named or none answers there."""
        from stream.kafka.bootstrap import check_reachable, require_bootstrap

        check_reachable(require_bootstrap(bootstrap))

    def sequences(self, settings: "Settings") -> "SequenceReader":
        """Give the reader of users' sequences under the data directory."""
        from stream.store.reader import SequenceReader

        return SequenceReader(settings.data_dir, settings.stream)


@app.callback()
def _settings(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; default: hstu.toml, if there is one.")
    ] = None,
) -> None:
    ctx.obj = Context(config)


for folder in (stream.cli, model.cli, sim.cli):
    folder.add_commands(app)


def main() -> None:
    """Run the command line; what a user can mend is one sentence on stderr and exit code 1."""
    from model.errors import ModelError
    from sim.errors import SimError
    from stream.errors import HstuError

    try:
        app()
    except (HstuError, ModelError, SimError) as error:
        print(f"hstu: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
