"""Snapshots with their aliases, newest first."""

from pathlib import Path

from model.dashboard.snapshot_list import SnapshotList
from model.storage.aliases import move
from tests.dashboard import line
from tests.served import model_arrays, write_model


def test_the_newest_and_the_named_are_listed(tmp_path: Path) -> None:
    """With HR@10 of the window where there is one; a damaged one is left out; an alias shows at once."""
    arrays = model_arrays()
    metrics = {"retrieval": line("silu", 1, share=0.5)["retrieval"]}
    paths = [write_model(tmp_path, step, arrays=arrays, alias=None, metrics=metrics) for step in (1, 2, 3, 4)]
    (paths[1] / "manifest.json").write_text("{")
    listed = SnapshotList(tmp_path)
    assert [row["step"] for row in listed.look(most=2)] == [4, 3]
    move(tmp_path, "prod", paths[0].name)
    rows = listed.look(most=2)
    assert [(row["step"], row["aliases"]) for row in rows] == [(4, []), (3, []), (1, ["prod"])]
    assert rows[0]["window"] == {"targets": 1000, "hr@10": 0.5}
    assert SnapshotList(tmp_path / "none").look() == []
