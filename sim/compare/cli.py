"""The verb `hstu compare`. Only typer is imported here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.log_flags import LogArgument

if TYPE_CHECKING:
    from sim.config import Settings

_WHAT, _HOW = "What is compared", "How"


def compare(
    ctx: typer.Context,
    log_flags: dict[str, Any],
    log: LogArgument = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper, baselines, map, drift, movielens, sequences or ranking: a comparison by name.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Scenario by name or file, or a data set; may be repeated.", rich_help_panel=_WHAT),
    ] = None,
    contestant: Annotated[
        list[str] | None,
        typer.Option(
            help="hstu, silu, softmax, transformer, gru, bert4rec, s3rec, din, popularity, …; may be repeated.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V[,V…]",
            help="Values of a setting: learning_rate=1e-3,3e-3, or of the scenarios: initial=0.1,1; "
            "with several, every combination is run.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Records of the paper's stream.", rich_help_panel=_WHAT)
    ] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Events of a scenario.", rich_help_panel=_WHAT)] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of stream and model.", rich_help_panel=_WHAT)] = None,
    score_at: Annotated[
        str | None,
        typer.Option(help="label: test when the label is learned; request: at its request.", rich_help_panel=_HOW),
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of the micro-batches that are tested.", rich_help_panel=_HOW)
    ] = None,
    late_share: Annotated[
        float | None,
        typer.Option(help="Share of the stream, at its end, that has figures of its own.", rich_help_panel=_HOW),
    ] = None,
    frozen: Annotated[
        bool | None,
        typer.Option(
            "--frozen/--no-frozen", help="Test the last part by frozen weights as well.", rich_help_panel=_HOW
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes at once.  [default: one for each core]", rich_help_panel=_HOW)
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder of results; the same command there continues.", rich_help_panel=_HOW),
    ] = Path("hstu-compare"),
) -> None:
    """Compare models on exactly the same events, each tested before it learns; ends with a report.

    On a LOG of your own, read by the flags of `hstu replay`, all that could be chosen is compared, and the settings to
    choose are printed. Else a preset is needed, or --scenario and --contestant; the other options change what a preset
    fixes.
    """
    import os

    from sim.compare.command import run_compare
    from sim.compare.options import Options, plan_of

    options = Options(
        preset=preset,
        scenarios=scenario or [],
        contestants=contestant or [],
        vary=vary or [],
        records=records,
        events=events,
        seeds=seeds,
        score_at=score_at,
        test_share=test_share,
        late_share=late_share,
        frozen=frozen,
        log=log or [],
        log_flags={flag: value for flag, value in log_flags.items() if value is not None},
    )
    settings: Settings = ctx.obj.load()
    plan = plan_of(options, settings)
    if not run_compare(plan, preset or "", out, jobs or os.cpu_count() or 1):
        raise typer.Exit(130)
