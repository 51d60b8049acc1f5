"""What `hstu inspect` prints."""

from typing import Any

import pytest

from sim.config import load
from sim.inspect.command import run_inspect


@pytest.fixture
def inspected(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What it prints, with blanks as they may be wrapped made one."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*log: str, **flags: Any) -> str:
        run_inspect(lambda given: load(None, given), log, flags)
        return capsys.readouterr().out

    return run
