"""A run that breaks off still ends everything, and tells what it found."""

from pathlib import Path
from typing import Any

import pytest

from stream.errors import BrokerError
from tests.chaos import run as module
from tests.chaos.report import Outcome
from tests.chaos.schedule import make_schedule


class BrokenSystem:
    """A Kafka that does not come back after the first fault."""

    ends: tuple[str, ...] = ()
    closed = False

    def __init__(self, folder: Path, profile: str) -> None:
        self.folder, self.broker, self.settings = folder, self, self
        self.bootstrap = self.stream = ""
        BrokenSystem.closed = False

    def start(self, workers: int) -> None: ...

    def close(self) -> list[str]:
        BrokenSystem.closed = True
        raise BrokerError("Kafka did not stop.")


def test_a_kafka_that_stays_away_costs_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults up to then are in the report, with what ended the run, and what did not end."""
    (fault,) = make_schedule(1, 1, ("poison",))

    def under_load(*_: Any) -> Any:
        yield Outcome(fault, 1.5)
        raise BrokerError("Kafka did not start within 60 s.")

    monkeypatch.setattr(module, "System", BrokenSystem)
    monkeypatch.setattr(module, "Load", lambda *_: None)
    monkeypatch.setattr(module, "_under_load", under_load)
    said: list[str] = []
    done = module.run(tmp_path / "chaos", "default", 1, [fault], 60, said.append)
    assert [outcome.recovery_s for outcome in done.outcomes] == [1.5]
    assert done.wrong == [
        "BrokerError: Kafka did not start within 60 s.",
        "the end: BrokerError: Kafka did not stop.",
    ]
    assert BrokenSystem.closed
    assert "Traceback" in said[0]
