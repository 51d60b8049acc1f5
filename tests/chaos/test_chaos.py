"""A short chaos run under default and under strict settings: nothing lost, nothing doubled, three equal digests.

`make chaos` runs the long one (docs/chaos.md).
"""

from pathlib import Path

import pytest

from tests.chaos.processes import TOML
from tests.chaos.report import table
from tests.chaos.run import run
from tests.chaos.schedule import make_schedule

_SHORT = (
    "kill worker and trainer",
    "kill Kafka",
    "stop worker",
    "move to another host",
    "store deleted",
    "worker's clock",
    "poison",
    "fast client",
    "refusal: tail cut, regrown",
)


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", TOML)
def test_everything_is_joined_and_learned_once(profile: str, tmp_path: Path) -> None:
    """Through kills, hangs, moves, poison and clocks; what must be refused is, in words; nothing stays behind."""
    schedule = make_schedule(7, len(_SHORT), _SHORT)
    done = run(tmp_path / "chaos", profile, 7, schedule, 60, print)
    assert not done.wrong, table([done])
