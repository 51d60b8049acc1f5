"""A folder with everything that a report shows."""

from pathlib import Path

import pytest

from tests.sim.report.report_folders import curve, moment, run, runs_of, write


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Two scenarios, three seeds, two learning rates of silu, an oracle and a shock in the first."""
    runs = [*runs_of("ab", 3), *runs_of("a", 3, ("oracle",))]
    runs += [run(scenario, "silu", seed, 0.2, "learning_rate=0.01") for scenario in "ab" for seed in range(3)]
    rates = [0.2] * 60 + [0.1] * 8 + [0.2] * 32
    curves = [curve(str(row["run"]), rates, age=age) for row in runs for age in ("<1h", "old")]
    return write(tmp_path / "whole", runs, curves, [moment("a", seed, 0.6) for seed in range(3)])
