"""A trainer on several ranks: its checkpoints are common, and a rank that is lost stops all."""

import re
import signal
import subprocess
import sys
from os import kill
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.distributed.ranks import Ranks
from model.errors import ModelError
from model.learning.on_ranks import follow
from model.trainer.run import Training
from tests import runs
from tests.ranks import on_ranks

ROOT = Path(__file__).parents[3]
_CODE = """
import sys, time
from pathlib import Path
from model.trainer.ranks import on_every_rank
from tests import runs

def train(ranks):
    training = runs.start(Path(sys.argv[1]), ranks=ranks)
    runs.run(training, after_step=wait if len(sys.argv) > 2 else lambda step: False)
    training.close()

def wait(step):
    if step == 3:
        print("step 3", flush=True)
        time.sleep(5)
    return False

on_every_rank(train, "cpu")
"""


def trained(folder: Path, count: int, upto: int = 1000) -> dict[str, Any]:
    """Return the report of a run on so many ranks, begun or continued, until a step."""

    def work(ranks: Ranks) -> dict[str, Any]:
        if ranks.rank:
            follow(ranks)
            return {}
        training = runs.run(runs.start(folder, ranks=ranks), after_step=lambda step: step >= upto)
        training.close()
        return training.report

    return on_ranks(count, work)[0]


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that all counts are equal, and all figures within 1e-5."""
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    for key in ("step", "examples", "tokens", "targets", "items", "event_ms"):
        assert found[key] == expected[key]
    ours, theirs = (report["retrieval"]["hstu"]["total"]["all"] for report in (found, expected))
    for metric, value in theirs.items():
        np.testing.assert_allclose(ours[metric], value, rtol=1e-5, err_msg=metric)


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    """Two, then three, then one: the figures of one process all along."""
    expected = trained(tmp_path / "one", 1)
    trained(tmp_path / "many", 2, upto=3)
    trained(tmp_path / "many", 3, upto=6)
    assert_alike(trained(tmp_path / "many", 1), expected)


def test_a_lost_rank_stops_rank_0_and_the_run_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    """Nothing of the step in which it was lost is kept."""
    expected = trained(tmp_path / "one", 1)

    def lose(ranks: Ranks) -> Training | None:
        if ranks.rank:
            raise InterruptedError
        training = runs.start(tmp_path / "two", ranks=ranks)
        try:
            return runs.run(training)
        finally:
            training.close()

    trained(tmp_path / "two", 2, upto=4)
    with pytest.raises((InterruptedError, ModelError)):
        on_ranks(2, lose)
    assert_alike(trained(tmp_path / "two", 2), expected)


@pytest.mark.slow
def test_kill_9_of_a_rank_ends_all_and_others_take_over(tmp_path: Path) -> None:
    """Under torchrun, with processes: it ends the one that is left; three go on from the checkpoint."""
    expected = trained(tmp_path / "one", 1)
    trained(tmp_path / "many", 2, upto=2)
    with subprocess.Popen(command(2, tmp_path / "many", "wait"), cwd=ROOT, stderr=-1, stdout=-1, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == "step 3\n"
        line = next(line for line in run.stderr if "follows rank 0" in line)
        kill(int(re.search(r"process (\d+)", line)[1]), signal.SIGKILL)  # type: ignore[index]
        assert run.wait(60) != 0
        assert "SIGKILL" in run.stderr.read()
    subprocess.run(command(3, tmp_path / "many"), cwd=ROOT, check=True, timeout=120)
    assert_alike(trained(tmp_path / "many", 1), expected)


def command(count: int, folder: Path, *more: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return [*launcher, "--no-python", sys.executable, "-c", _CODE, str(folder), *more]
