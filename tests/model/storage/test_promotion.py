"""The promotion gate: what it lets pass, what it holds, and the lines it keeps."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from model.storage.aliases import list_aliases
from model.storage.promotion import FILE, judge, promote
from model.storage.snapshot import Manifest
from tests.served import model_arrays, write_model


def metrics(model: float | None, counts: float, targets: int = 2000) -> dict[str, Any]:
    shares = {"hstu": model, "stack": counts}
    window = {name: {"window": {"all": {"targets": targets, "hr@10": share}}} for name, share in shares.items()}
    return {"retrieval": window}


def manifest(*window: Any, **more: Any) -> Manifest:
    return Manifest(name="silu", created=0, watermark_ms=0, step=1, metrics=metrics(*window, **more))


@pytest.mark.parametrize(
    ("old", "new", "moved", "reason"),
    [
        ((0.30, 0.25), (0.30, 0.25), True, "no fall beyond chance"),
        (
            (0.30, 0.25),
            (0.29, 0.25),
            True,
            "no fall beyond chance: HR@10 0.290, counts alone 0.250; before, HR@10 0.300",
        ),
        ((0.30, 0.25), (0.10, 0.08), True, "the counts have fallen as well, so the stream has changed"),
        ((0.30, 0.20), (0.20, 0.20), False, "the model has fallen, and its counts have not"),
        ((0.30, 0.25), (0.05, 0.25), False, "the model is below its own counts"),
        ((0.30, 0.25), (None, 0.25), False, "fewer than 200 targets"),
        ((0.30, 0.25), (0.40, 0.25, 199), False, "fewer than 200 targets"),
        ((0.30, 0.25, 10), (0.20, 0.20), True, "there is nothing to compare with"),
    ],
)
def test_a_worse_model_is_held_and_a_changed_stream_is_not(
    old: tuple[Any, ...], new: tuple[Any, ...], moved: bool, reason: str
) -> None:
    """By HR@10 of the last window, beside that of the counts on the same targets."""
    decision = judge(manifest(*old), manifest(*new))
    assert (decision.moved, reason in decision.reason) == (moved, True), decision.reason


def test_decisions_move_the_alias_and_are_kept(tmp_path: Path) -> None:
    """A line for each new candidate, with its reason; a candidate that is there already is no decision."""
    shares = ((0.3, 0.2), (0.1, 0.2), (0.31, 0.2))
    arrays = model_arrays()
    ids = [
        write_model(tmp_path, step, arrays=arrays, metrics=metrics(*share)).name for step, share in enumerate(shares, 1)
    ]
    found = [promote(tmp_path, "champion", each, 5.0).moved for each in (*ids, "latest")]
    assert found == [True, False, True, True]
    assert list_aliases(tmp_path)["champion"] == ids[2]
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(line["before"], line["candidate"], line["moved"]) for line in lines] == [
        (None, ids[0], True),
        (ids[0], ids[1], False),
        (ids[0], ids[2], True),
    ]
    assert (lines[1]["at"], "below its own counts" in lines[1]["reason"]) == (5.0, True)
    with pytest.raises(ModelError, match="'nothing' is neither a snapshot nor an alias"):
        promote(tmp_path, "champion", "nothing", 5.0)
