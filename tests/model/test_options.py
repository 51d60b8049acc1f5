"""What the model's verbs share."""

import sys
from pathlib import Path

import pytest

from model.options import require, snapshots_directory
from sim.config import Settings


def test_each_trainer_has_snapshots_of_its_own() -> None:
    """In the data directory, under the name that is served."""
    settings = Settings.model_validate({"data_dir": "there", "serve": {"name": "champion"}, "train": {"name": "other"}})
    assert snapshots_directory(settings) == Path("there/snapshots/champion")


def test_what_is_installed_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the check costs no second of imports; a package that is broken inside is found as well."""
    (tmp_path / "broken_hstu_extra.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    require("broken_hstu_extra", "json")
    assert "broken_hstu_extra" not in sys.modules


def test_the_first_missing_package_is_named() -> None:
    """`hstu` finds by the error's name which extra brings it."""
    with pytest.raises(ModuleNotFoundError) as missing:
        require("json", "absent_hstu_extra", "absent_too")
    assert missing.value.name == "absent_hstu_extra"
