"""The simulator's verbs of `hstu`: replay, inspect, scenarios, compare, demo, settings.

Only typer is imported here; a command imports what it needs when it runs, so that `hstu --help` stays quick.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.options import require
from sim.compare.cli import compare
from sim.log_flags import LogArgument, with_log_flags
from sim.scenarios.cli import scenarios_app

if TYPE_CHECKING:
    from sim.config import Settings

_LOG, _TO = "What is replayed", "Where to, and how"


def add_commands(app: typer.Typer) -> None:
    """Add the simulator's verbs."""
    app.command()(with_log_flags(replay))
    app.command()(with_log_flags(inspect))
    app.add_typer(scenarios_app, name="scenarios")
    app.command()(with_log_flags(compare))
    app.command()(demo)
    app.command()(warmup)
    app.command()(settings)


def _of_log(flag: str, text: str, default: str | bool = True) -> Any:
    """Return an option of the log; `default` is the text that --help shows as its default."""
    return typer.Option(flag, help=text, rich_help_panel=_LOG, show_default=default)


def _of_run(flag: str, text: str, default: str | bool = True) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=_TO, show_default=default)


def replay(
    ctx: typer.Context,
    log_flags: dict[str, Any],
    log: LogArgument = None,
    dataset: Annotated[
        str | None, _of_log("--dataset", "A data set of an installed package: movielens or ml-100k.")
    ] = None,
    scenario: Annotated[
        str | None, _of_log("--scenario", "A scenario: a name of `hstu scenarios list`, or a .toml file.")
    ] = None,
    synthetic: Annotated[str | None, _of_log("--synthetic", "A synthetic stream: dirichlet, the paper's.")] = None,
    records: Annotated[int | None, _of_log("--records", "Number of records of --synthetic.", "1,000,000")] = None,
    events: Annotated[
        int | None, _of_log("--events", "Number of clicks or slates of --scenario.", "the file's")
    ] = None,
    seed: Annotated[int | None, _of_log("--seed", "Seed of --scenario or --synthetic.", "the file's; 0")] = None,
    direct: Annotated[
        bool, _of_run("--direct", "Join and learn in this process, without Kafka, workers and trainer.")
    ] = False,
    speed: Annotated[
        str, _of_run("--speed", "max, events a second (5000/s), or a multiple of recorded time (60x).")
    ] = "max",
    restart: Annotated[
        bool, _of_run("--restart/--continue", "Begin again, or continue where the replay of that name was stopped.")
    ] = False,
    append: Annotated[
        bool, _of_run("--append", "Another log may follow in the same topics, or came before: time does not end.")
    ] = False,
    name: Annotated[
        str | None,
        _of_run("--name", "Name of the replay; with --direct, of the trainer.", "the log's; the attention's"),
    ] = None,
    attention: Annotated[str | None, _of_run("--attention", "With --direct: silu, silu_seen or softmax.")] = None,
    metrics: Annotated[Path | None, _of_run("--metrics", "With --direct: JSONL file of the metrics.")] = None,
    bootstrap: Annotated[str | None, _of_run("--bootstrap", "Kafka, as HOST:PORT[,HOST:PORT].")] = None,
    create_topics: Annotated[
        bool, _of_run("--create-topics/--no-create-topics", "Make the topics that do not exist.")
    ] = True,
    data_dir: Annotated[
        Path | None, _of_run("--data-dir", "Holds the state of the replay, or the stores of --direct.")
    ] = None,
) -> None:
    """Send a recorded log or a scenario as events, in event time, into Kafka or through this process alone.

    A replay that was stopped or killed goes on where it stood, and writes no event twice. The last heartbeat of a log
    is the end of time: after it the topics take no further events, so another log needs another stream.topic_prefix;
    or all of them are replayed with --append.
    """
    flags = {name: value for name, value in locals().items() if name != "ctx"}  # each is a field of ReplayOptions
    from sim.replay.command import run_replay
    from sim.replay.options import ReplayOptions

    if not run_replay(ctx.obj.load, ReplayOptions(**flags)):
        raise typer.Exit(130)


def inspect(ctx: typer.Context, log_flags: dict[str, Any], log: LogArgument = None) -> None:
    """Print what a log is: its columns, what a replay makes of it and loses, and the line that replays it.

    Without a LOG, the known logs are listed. The exit code is 1 if nothing can be replayed.
    """
    from sim.inspect.command import run_inspect

    if not run_inspect(ctx.obj.load, log or [], log_flags):
        raise typer.Exit(1)


def demo(
    directory: Annotated[
        Path, typer.Option("--in", help="Where the demo makes its directory, hstu-demo-<date>-<time>.")
    ] = Path(),
    user: Annotated[
        str | None,
        typer.Option(
            "--user", help="The user whose top 10 is shown at the end.  [default: 547, or one with rows before --limit]"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Rows of MovieLens at most.  [default: all]")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Leave everything up at the end, until Ctrl-C, to look at the dashboard.")
    ] = False,
) -> None:
    """Run the main job on this machine: Kafka, a worker, two trainers and a server; MovieLens-small is replayed."""
    from sim.demo.command import run_demo

    require("torch", "numba", "safetensors", "fastapi", "uvicorn")
    run_demo(directory, user, limit, stay=stay)


def warmup() -> None:
    """Compile for this machine what train, serve, compare and replay --direct would compile at their first use."""
    import time

    require("torch", "numba", "safetensors")
    from sim.warmup import warm_up

    start_s = time.monotonic()
    warm_up()
    typer.echo(f"The loops are compiled, after {time.monotonic() - start_s:.0f} s.")


def settings(ctx: typer.Context) -> None:
    """Print every setting with its meaning and its present value, as a hstu.toml to start from."""
    from sim.settings_toml import settings_page

    current: Settings = ctx.obj.load()
    typer.echo(settings_page(current), nl=False)
