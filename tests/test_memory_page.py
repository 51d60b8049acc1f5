"""docs/memory.md: the bounds that it prints are those of the code."""

import re
from importlib import import_module
from pathlib import Path

from model.config import TrainSettings
from stream.schema.ids import keyed

PAGE = (Path(__file__).parents[1] / "docs" / "memory.md").read_text()


def test_bounds_are_those_of_the_code() -> None:
    """Each row that names a constant has its value in MiB."""
    rows = re.findall(r"^\| .* \| (.*) \| `([\w.]+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 14
    for bound, place in rows:
        module, _, name = place.rpartition(".")
        mib = re.search(r"(\d+) MiB", bound)
        assert mib, place
        assert getattr(import_module(module), name) == int(mib[1]) << 20, place


def test_other_bounds_are_the_settings() -> None:
    """The replayed examples, and the ids that are remembered."""
    assert f"{TrainSettings().replay_mib:.0f} MiB, `train.replay_mib`" in PAGE
    assert f"{keyed.cache_info().maxsize:,} of 256 bytes" in PAGE
