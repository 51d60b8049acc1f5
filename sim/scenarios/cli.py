"""`hstu scenarios`: list, show.

Only typer is imported here; a command imports what it needs when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

scenarios_app = typer.Typer(no_args_is_help=True, help="List and explain the scenarios that can be replayed.")


@scenarios_app.command("list")
def list_() -> None:
    """List the scenarios that come with the package, and what drifts in each."""
    from rich.console import Console

    from sim.scenarios.terminal import print_list

    print_list(Console(highlight=False, markup=False))


@scenarios_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A name of `hstu scenarios list`, or a .toml file.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write it as one self-contained page as well.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed in place of the file's.")] = None,
    events: Annotated[int | None, typer.Option("--events", help="Number of events in place of the file's.")] = None,
) -> None:
    """Explain a scenario: its parameters, and what drifts as plots over its time."""
    from rich.console import Console

    from sim.scenarios.scenario import load_scenario
    from sim.scenarios.terminal import print_scenario

    scenario = load_scenario(name).with_(seed=seed, events=events)
    print_scenario(Console(highlight=False, markup=False), scenario)
    if html is not None:
        from sim.console import ERR
        from sim.scenarios.html_page import write_page

        write_page(html, scenario)
        ERR.print(f"Written to {html}.")
