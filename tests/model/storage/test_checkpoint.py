import json
from pathlib import Path

import numpy as np
import pytest

from model.errors import ModelError
from model.storage.checkpoint import Checkpoint, read_newest, refuse_other_settings, write_checkpoint


def a_cut(step: int) -> Checkpoint:
    """Make a cut with every kind of array there is in one."""
    arrays = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3) + step,
        "keys": np.array([0, 2**64 - 1], np.uint64),
        "withdrawn": np.array([True, False]),
        "scalar": np.array(3.0, np.float32),
        "empty": np.empty((0, 4), np.int64),
        "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    }
    return Checkpoint(arrays, {"step": step, "digest": "0f", "offsets": {"examples": [1, 2]}})


def test_a_cut_comes_back_as_it_was(tmp_path: Path) -> None:
    """Arrays with their dtypes and shapes, facts as JSON; the newest of several."""
    write_checkpoint(tmp_path, a_cut(1))
    write_checkpoint(tmp_path, a_cut(2))
    found, complaints = read_newest(tmp_path)
    assert found is not None
    assert complaints == []
    assert found.facts == a_cut(2).facts
    for name, array in a_cut(2).arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)


def test_the_last_two_are_kept_and_parts_are_swept(tmp_path: Path) -> None:
    """Older ones go, and so does what a crash left half written."""
    (tmp_path / ".cut-00000001.part").mkdir()
    for step in range(4):
        write_checkpoint(tmp_path, a_cut(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut-00000003", "cut-00000004"]


def test_an_unfinished_one_does_not_count(tmp_path: Path) -> None:
    """A crash before the rename leaves the checkpoint before it."""
    write_checkpoint(tmp_path, a_cut(1))
    (tmp_path / ".cut-00000002.part").mkdir()
    (tmp_path / ".cut-00000002.part" / "state.safetensors").write_bytes(b"half")
    found, complaints = read_newest(tmp_path)
    assert found is not None
    assert (found.facts["step"], complaints) == (1, [])


def test_no_folder_is_no_cut(tmp_path: Path) -> None:
    """A trainer that was never started begins at the beginning."""
    assert read_newest(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("harm", ["cut short", "flipped", "lost manifest", "foreign"])
def test_a_damaged_one_is_passed_over_in_a_sentence(tmp_path: Path, harm: str) -> None:
    """The one before it is taken, and the sentence names the folder."""
    write_checkpoint(tmp_path, a_cut(1))
    newest = write_checkpoint(tmp_path, a_cut(2))
    state, manifest = newest / "state.safetensors", newest / "manifest.json"
    data = bytearray(state.read_bytes())
    if harm == "cut short":
        state.write_bytes(data[:-8])
    elif harm == "flipped":
        data[-1] ^= 1
        state.write_bytes(data)
    elif harm == "lost manifest":
        manifest.unlink()
    else:
        manifest.write_text('{"format": "something else"}')
    found, [complaint] = read_newest(tmp_path)
    assert found is not None
    assert found.facts["step"] == 1
    assert str(newest) in complaint
    assert "passed over" in complaint


def test_if_none_can_be_read_nothing_starts_over(tmp_path: Path) -> None:
    """Training from scratch over damaged checkpoints would be silent loss; the sentence says what to do."""
    (write_checkpoint(tmp_path, a_cut(1)) / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"None of the checkpoints .* Restore one from a backup, or remove the folder"):
        read_newest(tmp_path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """The sentence has both versions."""
    path = write_checkpoint(tmp_path, a_cut(1)) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(ModelError, match=r"has version 9, and this hstu-stream reads version 1"):
        read_newest(tmp_path)


def test_other_settings_are_refused_by_name_and_both_values(tmp_path: Path) -> None:
    """What would change the bits of the run is not changed in silence."""
    refuse_other_settings({"model.dim": 64}, {"model.dim": 64}, tmp_path)
    with pytest.raises(ModelError, match=r"made with model\.dim = 64, but now it is 32"):
        refuse_other_settings({"model.dim": 64}, {"model.dim": 32}, tmp_path)
    with pytest.raises(ModelError, match=r"model\.new = not set, but now it is 1"):
        refuse_other_settings({}, {"model.new": 1}, tmp_path)


def test_a_full_or_forbidden_disk_is_a_sentence(tmp_path: Path) -> None:
    """An error of the operating system does not reach the user bare."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="No checkpoint could be written"):
        write_checkpoint(tmp_path / "file" / "train", a_cut(1))
