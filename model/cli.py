"""The model's verbs of `hstu`: train, serve, query, snapshots.

Only typer is imported here; a command imports what it needs when it runs, so that `hstu --help` stays quick.
"""

from contextlib import closing
from typing import Annotated

import typer

from model.options import DataDir, Name, require
from model.query.cli import Alias, query_app
from model.query.context import ModelCliContext, settings_of
from model.snapshots.cli import snapshots_app


def add_commands(app: typer.Typer) -> None:
    """Add the model's verbs."""
    app.command()(train)
    app.command()(serve)
    app.add_typer(query_app, name="query")
    app.add_typer(snapshots_app, name="snapshots")


def train(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Consumer group and folder; default: the attention if that is given."),
    ] = None,
    attention: Annotated[str | None, typer.Option("--attention", help="silu, silu_seen or softmax.")] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop once every partition has reached the end of time.")
    ] = False,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka, as HOST:PORT[,HOST:PORT].")] = None,
    data_dir: DataDir = None,
    threads: Annotated[int | None, typer.Option("--threads", help="PyTorch threads.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")] = None,
    live: Annotated[
        bool | None, typer.Option("--live/--quiet", help="Show the metrics as they change; default: on a terminal.")
    ] = None,
    weights_from: Annotated[
        str | None,
        typer.Option("--weights-from", help="Begin with what the trainer of this name has learned (docs/recovery.md)."),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--since",
            min=0,
            help="A new run passes over examples that became final before this event time in ms; default: all that "
            "the trainer of --weights-from was trained on.",
        ),
    ] = None,
) -> None:
    """Learn from topic examples as it grows: test, then train; snapshots as it goes."""
    import sys
    from functools import partial

    require("torch", "numba", "safetensors")
    _check_attention(attention)
    flags: dict[str, object] = {
        "train.name": name or attention,
        "model.attention": attention,
        "bootstrap": bootstrap,
        "data_dir": data_dir,
        "train.threads": threads,
        "train.device": device,
    }
    context: ModelCliContext = ctx.obj
    settings = context.load(flags)
    kafka = context.kafka(settings)
    from model.options import check_lengths
    from model.trainer.kafka import run_trainer
    from model.trainer.ranks import on_every_rank
    from model.trainer.run import Origin

    check_lengths(settings.model, settings.stream.example_tokens)
    on_every_rank(
        partial(
            run_trainer,
            settings.train,
            settings.model,
            settings.data_dir,
            kafka,
            topic_prefix=settings.stream.topic_prefix,
            partitions=settings.stream.partitions,
            bounds=settings.stream.time_bounds,
            until_end=until_end,
            live=sys.stdout.isatty() if live is None else live,
            origin=None if weights_from is None and since is None else Origin(weights_from or "", since),
        ),
        settings.train.device,
    )


def _check_attention(name: str | None) -> None:
    from typing import get_args

    from model.config import Activation
    from model.errors import ModelError

    names = get_args(Activation)
    if name is not None and name not in names:
        raise ModelError(f"There is no attention {name!r}; known are {', '.join(names)}.")


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; 0 means any free one.")] = None,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Answer queries over HTTP from the snapshot of an alias, following it as it moves."""
    flags: dict[str, object] = {"serve.host": host, "serve.port": port}
    settings = settings_of(ctx, name, alias, data_dir, flags)
    from model.serving.http.server import run_server

    context: ModelCliContext = ctx.obj
    with closing(context.sequences(settings)) as sequences:
        run_server(settings.serve, settings.data_dir, sequences, context.letters(settings))
