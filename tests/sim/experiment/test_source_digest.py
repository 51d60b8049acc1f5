"""Edited code makes another run; edited prose does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sim.compare.plan import Plan
from sim.experiment.source_digest import ROOT, source_digest

CONTESTANTS = ("silu", "softmax", "gru", "din", "markov", "popularity", "logistic", "oracle", "policy")
Edit = Callable[[str, str, str], set[str]]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """Return a function that replaces a text in a copy of our source, and returns whose digest has changed.

    All files of the copy but the edited one are links, so that they are parsed once for all tests.
    """
    before = {name: source_digest(name) for name in CONTESTANTS}

    def edit(file: str, old: str, new: str) -> set[str]:
        for source in (path for folder in ("model", "stream", "sim") for path in (ROOT / folder).rglob("*.py")):
            link = tmp_path / source.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
        text = (ROOT / file).read_text()
        assert old in text
        (tmp_path / file).unlink()
        (tmp_path / file).write_text(text.replace(old, new, 1))
        return {name for name in CONTESTANTS if source_digest(name, tmp_path) != before[name]}

    return edit


def test_an_edited_baseline_runs_again_alone(edited: Edit) -> None:
    """The other contestants keep their results."""
    assert edited("model/baselines/markov.py", "class Markov", "class Mark") == {"markov"}


def test_comments_and_docstrings_do_not_count(edited: Edit) -> None:
    """Neither does the layout."""
    assert edited("model/baselines/markov.py", '"""', '"""# Better prose. ') == set()


def test_an_edited_encoder_runs_again_with_its_users(edited: Edit) -> None:
    """The digest of a contestant holds its own encoder alone."""
    assert edited("model/network/encoders/gru.py", "class Encoder", "class Cell") == {"gru"}


def test_an_edited_ranking_model_runs_again_alone(edited: Edit) -> None:
    """As an encoder does."""
    assert edited("model/network/interest/din.py", "_UNIT, _HIDDEN", "_HIDDEN, _UNIT") == {"din"}


def test_the_learner_is_no_part_of_a_baseline(edited: Edit) -> None:
    """Its code decides what every encoder learns."""
    assert edited("model/learning/learner.py", "class Learner", "class Pupil") == {"silu", "softmax", "gru", "din"}


def test_the_regression_of_clicks_is_a_part_of_the_models_that_answer_with_it(edited: Edit) -> None:
    """Networks fuse it with their towers; other baselines have no click probabilities."""
    changed = edited("model/fusion/click_loops.py", "import numpy", "import sys as _\nimport numpy")
    assert changed == {"silu", "softmax", "gru", "din", "logistic"}


@pytest.mark.parametrize("file", ["sim/experiment/run.py", "stream/join/joiner.py"])
def test_what_all_share_runs_all_again(edited: Edit, file: str) -> None:
    """The loop that tests and trains; the joiner, which is reached through other modules."""
    assert {"silu", "gru", "markov"} <= edited(file, "import ", "import sys as _\nimport ")


def test_modules_that_a_package_loads_by_itself_count(tmp_path: Path) -> None:
    """Kinds of drift are found by their files; a new one may change every world."""
    digests = []
    for drifts in (["tide"], ["tide", "meteor"]):
        root = tmp_path / drifts[-1]
        folder = root / "sim" / "world"
        folder.mkdir(parents=True)
        (root / "sim" / "experiment").mkdir()
        (root / "sim" / "experiment" / "streams.py").write_text("import sim.world")
        (folder / "__init__.py").write_text("from pkgutil import iter_modules")
        for drift in drifts:
            (folder / f"{drift}.py").write_text("FACTOR = 2")
        digests.append(source_digest("policy", root))
    assert digests[0] != digests[1]


@pytest.mark.parametrize("line", ["from .law import FACTOR", "from . import law", "from ..world import law"])
def test_relative_imports_count(tmp_path: Path, line: str) -> None:
    """A module that is imported by a relative name decides figures like any other."""
    digests = []
    for factor in "12":
        root = tmp_path / factor
        for name, text in (("world/__init__", ""), ("world/users", line), ("world/law", f"FACTOR = {factor}")):
            (root / "sim" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "sim" / f"{name}.py").write_text(text)
        (root / "sim" / "experiment").mkdir()
        (root / "sim" / "experiment" / "streams.py").write_text("import sim.world.users")
        digests.append(source_digest("policy", root))
    assert digests[0] != digests[1]


def test_the_code_is_in_the_id_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan gives other ids once a contestant's code is another."""
    plan = Plan(scenarios=("growth",), contestants=("silu", "markov"))
    before = {spec.id for spec in plan.specs()}
    edited = {"markov": "edited"}
    monkeypatch.setattr("sim.compare.plan.source_digest", lambda name: edited.get(name, source_digest(name)))
    changed = before ^ {spec.id for spec in plan.specs()}
    assert {name.split("-")[0] for name in changed} == {"markov"}
    assert len(changed) == 2


def test_a_module_beside_its_data_counts(edited: Edit) -> None:
    """`known.py` reads the files of the folder `known`, which is no package."""
    assert "popularity" in edited("sim/sources/roles/known.py", "import ", "import sys as _\nimport ")
