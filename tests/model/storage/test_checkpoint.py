import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from model.errors import ModelError
from model.storage.checkpoint import VERSION, Checkpoint, read_newest, write_checkpoint


def a_checkpoint(step: int) -> Checkpoint:
    """Return a checkpoint with every kind of array that one can hold."""
    arrays = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3) + step,
        "keys": np.array([0, 2**64 - 1], np.uint64),
        "withdrawn": np.array([True, False]),
        "scalar": np.array(3.0, np.float32),
        "empty": np.empty((0, 4), np.int64),
        "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    }
    return Checkpoint(arrays, {"step": step, "digest": "0f", "offsets": {"examples": [1, 2]}})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    """Arrays with their dtypes and shapes, facts as JSON; the newest of several."""
    write_checkpoint(tmp_path, a_checkpoint(1))
    write_checkpoint(tmp_path, a_checkpoint(2))
    found, complaints = read_newest(tmp_path)
    assert found is not None
    assert complaints == []
    assert found.facts == a_checkpoint(2).facts
    for name, array in a_checkpoint(2).arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)


def test_the_last_two_are_kept_and_unfinished_ones_removed(tmp_path: Path) -> None:
    """Older ones go, and so does what a crash left half written."""
    (tmp_path / ".cut-00000001.part").mkdir()
    for step in range(4):
        write_checkpoint(tmp_path, a_checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut-00000003", "cut-00000004"]


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    """A crash before the rename leaves the checkpoint before it."""
    write_checkpoint(tmp_path, a_checkpoint(1))
    (tmp_path / ".cut-00000002.part").mkdir()
    (tmp_path / ".cut-00000002.part" / "state.safetensors").write_bytes(b"half")
    found, complaints = read_newest(tmp_path)
    assert found is not None
    assert (found.facts["step"], complaints) == (1, [])


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    """A trainer that was never started begins at the beginning."""
    assert read_newest(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("harm", ["cut short", "flipped", "lost manifest", "foreign", "nested", "facts cut", "list"])
def test_a_damaged_checkpoint_is_passed_over_in_a_sentence(tmp_path: Path, harm: str) -> None:
    """The one before it is taken, and the sentence names the folder."""
    write_checkpoint(tmp_path, a_checkpoint(1))
    newest = write_checkpoint(tmp_path, a_checkpoint(2))
    state, manifest = newest / "state.safetensors", newest / "manifest.json"
    data = bytearray(state.read_bytes())
    if harm == "cut short":
        state.write_bytes(data[:-8])
    elif harm == "flipped":
        data[-1] ^= 1
        state.write_bytes(data)
    elif harm == "lost manifest":
        manifest.unlink()
    elif harm == "nested":
        manifest.write_text("[" * 100_000)
    elif harm == "facts cut":
        told = json.loads(manifest.read_text())
        del told["facts"]["digest"]
        manifest.write_text(json.dumps(told))
    elif harm == "list":
        manifest.write_text(manifest.read_text().replace('"facts": {', '"facts": [1], "other": {'))
    else:
        manifest.write_text('{"format": "something else"}')
    found, [complaint] = read_newest(tmp_path)
    assert found is not None
    assert found.facts["step"] == 1
    assert str(newest) in complaint
    assert "passed over" in complaint


def test_if_none_can_be_read_nothing_starts_over(tmp_path: Path) -> None:
    """Training from scratch over damaged checkpoints would be silent loss; the sentence says what to do."""
    (write_checkpoint(tmp_path, a_checkpoint(1)) / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"None of the checkpoints .* Restore one from a backup, or remove the folder"):
        read_newest(tmp_path)


@pytest.mark.parametrize("version", [1, VERSION - 1, VERSION + 1])
def test_another_version_is_refused(tmp_path: Path, version: int) -> None:
    """An older or a newer one; the sentence has both versions."""
    path = write_checkpoint(tmp_path, a_checkpoint(1)) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(ModelError, match=rf"has version {version}, and this hstu-stream reads version {VERSION}"):
        read_newest(tmp_path)


def test_a_full_or_forbidden_disk_is_a_sentence(tmp_path: Path) -> None:
    """An error of the operating system does not reach the user bare."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="No checkpoint could be written"):
        write_checkpoint(tmp_path / "file" / "train", a_checkpoint(1))


def test_a_checkpoint_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it would keep a full disk full."""
    write_checkpoint(tmp_path, a_checkpoint(1))

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:8])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("model.storage.checkpoint.write_synced", full)
    with pytest.raises(ModelError, match="No space left on device; make room"):
        write_checkpoint(tmp_path, a_checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["cut-00000001"]


def test_names_that_only_look_like_checkpoints_are_passed_over(tmp_path: Path) -> None:
    """Digits of other scripts, no digits, too many: they are no numbers of ours."""
    for name in ("cut-\u0663\u0663\u0663\u0663\u0663\u0663\u0663\u0663", "cut-", "cut-1", f"cut-{'9' * 200}"):
        (tmp_path / name).mkdir()
    assert read_newest(tmp_path) == (None, [])
    assert write_checkpoint(tmp_path, a_checkpoint(1)).name == "cut-00000001"


def test_facts_come_back_as_json_has_them(tmp_path: Path) -> None:
    """Keys that are numbers are strings then, in whatever order; NaN stays what it is."""
    write_checkpoint(tmp_path, Checkpoint({}, {"by": {10: 1, 2: 2}, "loss": float("nan")}))
    found, complaints = read_newest(tmp_path)
    assert complaints == []
    assert found is not None
    assert found.facts["by"] == {"10": 1, "2": 2}
