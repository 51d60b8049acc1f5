"""Scenarios in the terminal: plots fit it, and flat curves are stated."""

import numpy as np
import pytest

from sim.scenarios.terminal import BLOCKS, sparkline
from tests.sim.scenarios.commands import SMALL, hstu


@pytest.mark.parametrize("columns", [70, 80, 200])
def test_plots_fit_the_terminal(columns: int) -> None:
    """In any terminal no label, plot or range is cut off."""
    output = hstu("scenarios", "show", "shock", *SMALL, columns=columns)
    assert max(map(len, output.splitlines())) <= columns
    plots = [line for line in output.splitlines() if BLOCKS[-1] in line]
    assert len(plots) >= 9
    assert all(line.rstrip().endswith("%") for line in plots)
    assert "items of shocks" in output


def test_what_stands_still_is_stated() -> None:
    """It is stated instead of drawn as flat lines."""
    assert "Category mix of all users" in hstu("scenarios", "show", "growth", *SMALL)
    assert "Stands still." in hstu("scenarios", "show", "growth", *SMALL)
    assert "In shares of the event time: shock 1 from 40% to 55%" in hstu("scenarios", "show", "shock", *SMALL)


def test_a_curve_is_a_line_of_blocks() -> None:
    """From its least to its greatest value, in at most as many characters as there is room for."""
    assert sparkline(np.array([0.0, 1.0, 2.0, 4.0])) == "▁▂▄█"
    assert sparkline(np.array([5.0, 5.0, 5.1])) == BLOCKS[3] * 3
    wide = sparkline(np.linspace(0, 1, 500), 20)
    assert len(wide) == 20
    assert (wide[0], wide[-1]) == (BLOCKS[0], BLOCKS[-1])
