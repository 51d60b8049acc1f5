"""Settings of runs: flattened, and the number in which variants differ."""

import json
from pathlib import Path

from sim.report.analysis.results import read_results
from sim.report.analysis.settings import leaves, varied
from tests.sim.report.report_folders import run, write


def test_variants_are_laid_out_by_the_one_number_they_differ_in(tmp_path: Path) -> None:
    """The learning rate of each; a run that names none has the default; texts and two numbers are no axis."""
    runs = [run("a", "silu", 0, 0.1, variant) for variant in ("", "learning_rate=0.01")]
    found = varied(read_results(write(tmp_path, runs)), "a")
    assert found == ("learning rate", {("silu", ""): 0.001, ("silu", "learning_rate=0.01"): 0.01})
    runs = [run("b", "silu", 0, 0.1, name, settings=json.dumps({"bias": name})) for name in ("none", "bucketed")]
    assert varied(read_results(write(tmp_path, runs)), "b") is None
    assert varied(read_results(write(tmp_path, [run("c", "silu", 0, 0.1)])), "c") is None


def test_settings_are_flattened() -> None:
    """Nested keys get dots; lists and empty objects are leaves; a text that is no JSON is kept."""
    assert leaves('{"a": {"b": [1]}, "c": {}}') == {"a.b": [1], "c": {}}
    assert leaves("no JSON") == {"settings": "no JSON"}
    assert leaves(None) == {}
