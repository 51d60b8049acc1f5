"""The table of a chaos run."""

from tests.chaos.checks import Verdict
from tests.chaos.report import Outcome, Run, table
from tests.chaos.schedule import Fault


def fault(number: int, kind: str) -> Fault:
    return Fault(number, kind, 0, 0.0, 0.0)


def test_faults_are_counted_by_kind_with_their_recovery() -> None:
    """Median and longest; a refusal is said, what was not done is not counted; what is wrong stands below."""
    outcomes = [
        Outcome(fault(1, "join"), 1.0),
        Outcome(fault(2, "join"), 4.0),
        Outcome(fault(3, "refusal: tail cut"), None),
        Outcome(fault(4, "disk full"), None, skipped="needs root"),
        Outcome(fault(5, "poison"), None, wrong="not everything is joined"),
    ]
    run = Run("strict", 1, 60.0, outcomes, Verdict(wrong=["digest of model"]))
    lines = table([run]).splitlines()
    assert "| join | 2 | 2.5 s | 4.0 s |" in lines
    assert "| refusal: tail cut | 1 | said |  |" in lines
    assert any(line.startswith("| all | 4 | 2.5 s | 4.0 s") for line in lines)
    assert not [line for line in lines if line.startswith("| disk full")]
    assert run.wrong == ["fault 5, poison: not everything is joined", "digest of model"]
    assert "- not done: disk full (needs root)" in lines
    assert "WRONG:" in lines[-4]
