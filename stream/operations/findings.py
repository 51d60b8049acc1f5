"""What an examination finds: one line each, with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and will not in some case that the line names."""
    FAIL = "fail"
    """It does not work, or loses something."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `hstu doctor`."""

    level: Level
    what: str
    says: str
    mend: str = ""
    """What to do; empty if there is nothing to do."""


def ok(what: str, says: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(Level.OK, what, says)


def warn(what: str, says: str, mend: str) -> Finding:
    """Return a warning."""
    return Finding(Level.WARN, what, says, mend)


def fail(what: str, says: str, mend: str) -> Finding:
    """Return a failure."""
    return Finding(Level.FAIL, what, says, mend)
