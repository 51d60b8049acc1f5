"""The flags of a log on any verb: they are its options, and it gets them as one dict."""

from dataclasses import fields
from typing import Annotated, Any

import typer
from typer.testing import CliRunner

from sim.log_flags import FLAGS, LogArgument, with_log_flags
from sim.sources.log_columns import LogSettings


def test_a_verb_gets_the_flags_of_a_log_as_one_dict() -> None:
    """Beside its own options; those that were not given are None."""
    got: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @with_log_flags
    def verb(log_flags: dict[str, Any], log: LogArgument = None, own: Annotated[int, typer.Option()] = 1) -> None:
        """Return nothing."""
        got.update(log_flags, log=log, own=own)

    line = [
        "a.csv",
        "b.csv",
        "--user",
        "u",
        "--as",
        "mind",
        "--no-header",
        "--drop-duplicates",
        "--limit",
        "5",
        "--own",
        "2",
    ]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    given = {name: value for name, value in got.items() if value is not None}
    assert given == {
        **{"log": ["a.csv", "b.csv"], "own": 2, "user": "u", "read_as": "mind", "header": False},
        **{"drop_duplicates": True, "limit": 5},
    }


def test_every_setting_of_a_log_is_a_flag() -> None:
    """And every flag is one, or the catalogue's, or the name of a known log."""
    assert set(FLAGS) == {field.name for field in fields(LogSettings)} | {
        "items",
        "item_id",
        "title",
        "features",
        "read_as",
    }
