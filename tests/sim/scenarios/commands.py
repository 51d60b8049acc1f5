"""`hstu` in this process."""

from typer.testing import CliRunner

from sim.main import app

SMALL = ("--events", "3000")


def hstu(*words: str, columns: int = 160) -> str:
    """Run a command in a terminal of this width; return what it prints, or raise its error."""
    done = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout
