import errno
import os
from pathlib import Path
from typing import Any

import pytest

from model.storage.durable import rename_synced, replace_file, write_synced


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that takes every fsync and every rename from now on."""
    done: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def noted_fsync(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def noted_move(move: Any, source: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return move(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", lambda source, target: noted_move(replace, source, target))
    monkeypatch.setattr(Path, "rename", lambda source, target: noted_move(rename, source, target))
    return done


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order: the file aside, the rename, the folder; its owner alone may read the file."""
    (tmp_path / "state").write_text("old")
    done = noted(monkeypatch)
    replace_file(tmp_path / "state", b"new")
    assert [done[0].startswith("sync .state."), *done[1:]] == [True, "rename to state", f"sync {tmp_path.name}"]
    assert (tmp_path / "state").read_text() == "new"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_the_old_content_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails before the rename, the file aside is removed."""
    (tmp_path / "state").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path if step == "replace" else os, step, full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "state", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("state", "old")]


def test_a_directory_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order: the directory itself, the rename, its parent."""
    (tmp_path / ".aside").mkdir()
    write_synced(tmp_path / ".aside" / "file", b"content")
    done = noted(monkeypatch)
    rename_synced(tmp_path / ".aside", tmp_path / "final")
    assert done == ["sync .aside", "rename to final", f"sync {tmp_path.name}"]
    assert (tmp_path / "final" / "file").read_bytes() == b"content"
