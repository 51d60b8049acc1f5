"""The model's verbs of `hstu`: train, serve, query, snapshots.

Only typer is imported here; a command imports what it needs when it runs, so that `hstu --help` stays quick.
"""

import csv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from model.options import DataDir, Json, ModelCliSettings, Name, require, snapshots_directory
from model.storage.cli import snapshots_app

if TYPE_CHECKING:
    from model.dashboard.overview import LettersReader
    from model.serving.answerer import Answerer
    from model.serving.responses import Ranking, SnapshotInfo, TopK
    from model.serving.sequences import Sequences

    class OpenSequences(Sequences, Protocol):
        """Users' sequences that are closed after use."""

        def close(self) -> None:
            """Close the stores."""


query_app = typer.Typer(no_args_is_help=True, help="Ask a snapshot: topk, rank.")

Alias = Annotated[str | None, typer.Option("--alias", help="Alias or id of the snapshot.")]


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
            help="With --weights-from: pass over examples that became final before this event time in ms; default: "
            "what that trainer was trained on.",
        ),
    ] = None,
) -> None:
    """Learn from topic examples as it grows: test, then train; snapshots as it goes."""
    import sys

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
    from model.errors import ModelError
    from model.trainer.kafka import run_trainer
    from model.trainer.run import Origin

    if since is not None and weights_from is None:
        raise ModelError("--since belongs to --weights-from; give both, or remove it.")
    run_trainer(
        settings.train,
        settings.model,
        settings.data_dir,
        kafka,
        topic_prefix=settings.stream.topic_prefix,
        partitions=settings.stream.partitions,
        bounds=settings.stream.time_bounds,
        until_end=until_end,
        live=sys.stdout.isatty() if live is None else live,
        origin=Origin(weights_from, since) if weights_from else None,
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
    settings = _settings(ctx, name, alias, data_dir, flags)
    from model.serving.http.server import run_server

    context: ModelCliContext = ctx.obj
    with closing(context.sequences(settings)) as sequences:
        run_server(settings.serve, settings.data_dir, sequences, context.letters(settings))


def _settings(
    ctx: typer.Context,
    name: str | None,
    alias: str | None,
    data_dir: Path | None,
    more: dict[str, object] | None = None,
) -> ModelCliSettings:
    context: ModelCliContext = ctx.obj
    return context.load({"serve.name": name, "serve.alias": alias, "data_dir": data_dir, **(more or {})})


@query_app.command("topk")
def query_topk(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="Id of the user.")] = None,
    sequence: Annotated[str | None, typer.Option("--sequence", help="Item ids a,b,c in place of a user's.")] = None,
    k: Annotated[int, typer.Option("-k", help="Items wanted, up to 1000.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also items the user has acted on.")] = False,
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Print the best live items for a user, or after a sequence of items."""
    from model.serving.responses import QueryError

    if (user is None) == (sequence is None):
        raise QueryError("Give either --user or --sequence.")
    settings = _settings(ctx, name, alias, data_dir)
    if user is not None:
        with _answerer(ctx, settings) as answerer:
            _print_topk(answerer.topk(user, k, include_seen=include_seen), as_json)
        return
    from model.serving.answerer import open_answerer
    from model.serving.sequences import NoSequences

    answerer = open_answerer(snapshots_directory(settings), settings.serve.alias, NoSequences())
    _print_topk(answerer.topk_sequence(_split(sequence), k, include_seen=include_seen), as_json)


@query_app.command("rank")
def query_rank(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", help="Id of the user.")],
    items: Annotated[str, typer.Option("--items", help="Item ids a,b,c, up to 2000; one with a comma in quotes.")],
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Put items in order for a user, with the probability of each action."""
    with _answerer(ctx, _settings(ctx, name, alias, data_dir)) as answerer:
        _print_ranking(answerer.rank(user, _split(items)), as_json)


def _split(items: str | None) -> list[str]:
    """Return the ids between commas; one that has a comma itself stands in quotes."""
    return next(csv.reader([items])) if items else []


@contextmanager
def _answerer(ctx: typer.Context, settings: ModelCliSettings) -> Iterator["Answerer"]:
    from model.serving.answerer import open_answerer

    context: ModelCliContext = ctx.obj
    with closing(context.sequences(settings)) as sequences:
        yield open_answerer(snapshots_directory(settings), settings.serve.alias, sequences)


def _print_topk(answer: "TopK", as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(indent=2))
        return
    from model.terminal import show_notes, show_table

    rows = [(place, item.item_id, item.title, item.score) for place, item in enumerate(answer.items, 1)]
    show_table(("", "item", "title", "score"), rows, f"Top {len(rows)} for {answer.user or 'the sequence'}")
    show_notes(answer.reason and f"By popularity: {answer.reason}.", _origin(answer.snapshot))


def _print_ranking(answer: "Ranking", as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(indent=2))
        return
    from model.terminal import show_notes, show_table

    actions = list(next((item.probabilities for item in answer.items if item.probabilities), {}))
    rows = [
        (
            *(place, item.item_id, item.title, item.score),
            *((item.probabilities or {}).get(action) for action in actions),
            "withdrawn" if item.withdrawn else "" if item.known else "unknown",
        )
        for place, item in enumerate(answer.items, 1)
    ]
    show_table(("", "item", "title", "score", *actions, "note"), rows, f"Ranked for {answer.user}")
    reason = answer.reason and f"{'By popularity: ' if answer.source == 'popularity' else ''}{answer.reason}."
    show_notes(reason, f"Ordered by {answer.ordered_by.replace('_', ' ')}.", _origin(answer.snapshot))


def _origin(snapshot: "SnapshotInfo") -> str:
    from model.terminal import span, when

    alias = f" ({snapshot.alias})" if snapshot.alias else ""
    return (
        f"Snapshot {snapshot.id} of {snapshot.name}{alias}, {span(snapshot.age_s)} old, "
        f"had learned up to {when(snapshot.watermark_ms)}."
    )
