import errno
import fcntl
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import model.storage.snapshot
from model.arrays.state import prefixed, under
from model.errors import ModelError
from model.storage.snapshot import (
    ARRAYS,
    FORMAT,
    MANIFEST,
    list_snapshots,
    load_snapshot,
    read_manifest,
    survey,
    write_snapshot,
)
from tests.snapshots import some_arrays, some_manifest, write_some

ROOT = Path(__file__).parents[3]
WRITE_FOR_EVER = """
import sys, numpy as np
from pathlib import Path
from model.storage.snapshot import write_snapshot
from snapshots import some_manifest
for step in range(1, 10**6):
    arrays = {"items.weight": np.full((4096, 256), step, np.float32)}
    write_snapshot(Path(sys.argv[1]), arrays=arrays, manifest=some_manifest(step))
"""


def beside() -> dict[str, str]:
    """Return an environment in which a new Python finds the packages and the helpers of the tests."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def names(directory: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def rewrite_manifest(path: Path, **changes: Any) -> None:
    """Change fields of the manifest behind the writer's back."""
    content = msgspec.json.decode((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_bytes(msgspec.json.encode(content | changes))


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Arrays come back to the bit with dtype and shape, the manifest with id, size and digest filled in."""
    arrays = some_arrays()
    manifest = some_manifest(
        1234,
        parent="00001233-00000000",
        offsets={"examples": [3, 4]},
        settings={"model": {"dim": 64}},
        metrics={"hr@10": np.float64(0.5), "auc": math.nan, "ages": np.array([1, 2])},
        digests={"model": "ab"},
    )
    path = write_snapshot(tmp_path / "new" / "silu", arrays=arrays, manifest=manifest)
    snapshot = load_snapshot(path)
    assert snapshot.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (snapshot.arrays[name].dtype, snapshot.arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(snapshot.arrays[name], array)
    assert path.name == snapshot.manifest.id == f"00001234-{snapshot.manifest.arrays_digest[:8]}"
    assert snapshot.manifest.metrics == {"hr@10": 0.5, "auc": None, "ages": [1, 2]}
    assert (snapshot.manifest.offsets, snapshot.manifest.parent) == (manifest.offsets, manifest.parent)
    assert names(path) == [ARRAYS, MANIFEST]
    assert names(path.parent) == [path.name]


def test_torch_tensors_are_written_as_they_are(tmp_path: Path) -> None:
    """Weights that require gradients and views that are not contiguous are written like arrays."""
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    path = write_snapshot(tmp_path, arrays={"w": weight, "t": weight.detach().T}, manifest=some_manifest())
    arrays = load_snapshot(path).arrays
    np.testing.assert_array_equal(arrays["w"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays["t"], [[0, 3], [1, 4], [2, 5]])


def test_a_dtype_without_a_place_is_refused(tmp_path: Path) -> None:
    """The sentence names the array and says what to do; nothing is left behind."""
    with pytest.raises(ModelError, match=r"Array w is bfloat16.*convert it to float32"):
        write_snapshot(tmp_path, arrays={"w": torch.zeros(1, dtype=torch.bfloat16)}, manifest=some_manifest())
    assert names(tmp_path) == []


def test_prefixes_are_put_on_and_taken_off() -> None:
    """The names of a state get a prefix in the snapshot, and lose it when they are read."""
    state = {"keys": 1, "born_ms": 2}
    assert under("items.", {**prefixed("items.", state), "features.keys": 3}) == state


def test_repeating_a_write_changes_nothing(tmp_path: Path) -> None:
    """A trainer that resumed before this step writes the same snapshot again: the first stays."""
    first = write_some(tmp_path, 3)
    inode = first.stat().st_ino
    assert write_some(tmp_path, 3, created=99.0) == first
    assert first.stat().st_ino == inode
    assert read_manifest(first).created == 3.0


def test_a_damaged_snapshot_is_replaced_by_its_repetition(tmp_path: Path) -> None:
    """Bytes that rotted under the same id do not survive writing it again."""
    path = write_some(tmp_path, 3)
    data = bytearray((path / ARRAYS).read_bytes())
    data[-1] ^= 1
    (path / ARRAYS).write_bytes(data)
    assert write_some(tmp_path, 3) == path
    assert load_snapshot(path).manifest.step == 3
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("step", ["write_arrays", "write_synced", "rename_synced", "_settle"])
def test_an_error_between_any_two_steps_leaves_whole_snapshots_only(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer was doing, readers see the snapshot before, and the next write succeeds."""
    before = write_some(tmp_path, 1)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.storage.snapshot, step, fail)
        with pytest.raises(KeyboardInterrupt):
            write_some(tmp_path, 2)
    assert [manifest.id for manifest in list_snapshots(tmp_path)] == [before.name]
    assert names(tmp_path) == [before.name]
    assert load_snapshot(write_some(tmp_path, 2)).manifest.step == 2


def test_every_file_and_both_directories_are_synced_before_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the commit: arrays, manifest, directory aside, rename, parent."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def noted_rename(source: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    path = write_some(tmp_path, 1)
    assert done[2].startswith(".writing-")
    assert done == [ARRAYS, MANIFEST, done[2], f"rename to {path.name}", tmp_path.name]


def killed_writer(directory: Path, after: int) -> None:
    """Run a process that writes snapshots without end; kill it once there are `after` of them and an unfinished one."""
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(directory)], env=beside())
    deadline = time.monotonic() + 60
    try:
        while True:
            present = names(directory)
            if len([name for name in present if name[0] != "."]) >= after and any(name[0] == "." for name in present):
                break
            assert writer.poll() is None
            assert time.monotonic() < deadline
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()


def test_kill_minus_nine_leaves_whole_snapshots_only(tmp_path: Path) -> None:
    """Killed while it writes, again and again: each listed snapshot loads, and leftovers go with the next write."""
    for after in (1, 4, 7):
        killed_writer(tmp_path, after)
        manifests, sentences = survey(tmp_path)
        assert (len(manifests) >= after, sentences) == (True, [])
        for manifest in manifests:
            arrays = load_snapshot(tmp_path / manifest.id).arrays
            assert (arrays["items.weight"] == manifest.step).all()
    write_some(tmp_path, 10**7)
    assert all(name[0] != "." for name in names(tmp_path))


def test_a_living_writer_is_not_cleared_away(tmp_path: Path) -> None:
    """A locked folder belongs to a process that still writes it."""
    (tmp_path / ".writing-other").mkdir()
    (tmp_path / ".deleting-dead").mkdir()
    handle = os.open(tmp_path / ".writing-other", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    path = write_some(tmp_path, 1)
    assert names(tmp_path) == [".writing-other", path.name]
    os.close(handle)
    write_some(tmp_path, 2)
    assert ".writing-other" not in names(tmp_path)


@pytest.mark.parametrize("writes", ["write_synced", "rename_synced"])
def test_a_full_disk_is_a_sentence(writes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: the sentence says where and what to do; nothing half-written stays."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(model.storage.snapshot, writes, full)
    with pytest.raises(
        ModelError, match=rf"No snapshot could be written to {tmp_path}: No space left.*free some space"
    ):
        write_some(tmp_path, 1)
    assert names(tmp_path) == []


def test_a_disk_that_is_full_under_the_arrays_is_the_same_sentence(tmp_path: Path) -> None:
    """A real write that the kernel refuses."""
    script = (
        "import resource, signal\n"
        "from pathlib import Path\nfrom snapshots import write_some\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"write_some(Path({str(tmp_path)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=beside(), capture_output=True, text=True, check=False)
    assert f"ModelError: No snapshot could be written to {tmp_path}: File too large" in done.stderr
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "silu").write_text("")
    with pytest.raises(ModelError, match=r"No snapshot could be written to .*silu: .*check that it is writable"):
        write_some(tmp_path / "silu", 1)


def torn(path: Path) -> None:
    """Cut off the last byte of the arrays."""
    data = (path / ARRAYS).read_bytes()
    (path / ARRAYS).write_bytes(data[:-1])


def flipped(path: Path) -> None:
    """Change one bit of the arrays."""
    data = bytearray((path / ARRAYS).read_bytes())
    data[len(data) // 2] ^= 1
    (path / ARRAYS).write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (torn, r"is torn: arrays.safetensors has \d+ bytes, its manifest says \d+"),
        (flipped, r"is damaged: arrays.safetensors has the digest [0-9a-f]{32}, its manifest says"),
        (lambda path: (path / ARRAYS).unlink(), r"lacks arrays.safetensors"),
        (lambda path: (path / MANIFEST).unlink(), r"holds no readable manifest.json.*no snapshot, or a torn copy"),
        (lambda path: (path / MANIFEST).write_text("{"), r"is foreign or damaged: .*truncated"),
        (lambda path: (path / MANIFEST).write_bytes(b'{"kind": "\xff'), r"is foreign or damaged"),
        (lambda path: (path / MANIFEST).write_text("{}"), r"is foreign or damaged: .*`format`"),
        (
            lambda path: rewrite_manifest(path, format=FORMAT + 1),
            rf"has format {FORMAT + 1}, but this hstu-stream reads format {FORMAT}; upgrade",
        ),
        (lambda path: rewrite_manifest(path, kind="album"), r"is foreign: its manifest says 'album'"),
        (lambda path: rewrite_manifest(path, step="x"), r"is foreign or damaged: .*\$.step"),
        (
            lambda path: rewrite_manifest(path, id="00000009-00000000"),
            r"was edited: its id is '00000009-00000000', but",
        ),
        (
            lambda path: rewrite_manifest(path, step=9),
            r"was edited: its id is .*, but step 9 and the digest .* make ano",
        ),
        (lambda path: rewrite_manifest(path, step=10**4000), r"is foreign or damaged"),
        (lambda path: rewrite_manifest(path, settings={"model": [1]}), r"is foreign or damaged: .*\$.settings"),
        (lambda path: (path / MANIFEST).write_text('{"x":' * 2000), r"is foreign or damaged: it is 2000 levels deep"),
    ],
)
def test_what_is_no_whole_snapshot_is_refused(harm: Any, sentence: str, tmp_path: Path) -> None:
    """Torn, damaged, foreign or newer: loading reports which, and never returns arrays."""
    path = write_some(tmp_path, 1)
    harm(path)
    with pytest.raises(ModelError, match=sentence):
        load_snapshot(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [ARRAYS, "manifest.json"])
def test_a_pipe_in_a_snapshot_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """It is no plain file."""
    path = write_some(tmp_path, 1)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(ModelError, match="it is no plain file"):
        load_snapshot(path)


def test_a_digest_that_fits_foreign_bytes_is_still_refused(tmp_path: Path) -> None:
    """Bytes that are no safetensors file are refused even where size, digest and id agree."""
    path = write_some(tmp_path, 1)
    (path / ARRAYS).write_bytes(b"x" * 20)
    digest = model.storage.snapshot.file_digest(path / ARRAYS)
    path = path.rename(tmp_path / f"00000001-{digest[:8]}")
    rewrite_manifest(path, id=path.name, arrays_bytes=20, arrays_digest=digest)
    with pytest.raises(ModelError, match=r"arrays of snapshot .* cannot be read"):
        load_snapshot(path)


def test_a_snapshot_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """The sentence says where it was looked for and how to see those there are."""
    with pytest.raises(ModelError, match=r"no snapshot at .*00000001-00000000; `hstu snapshots list`"):
        load_snapshot(tmp_path / "00000001-00000000")


def test_the_list_goes_from_old_to_new_and_reports_the_unreadable(tmp_path: Path) -> None:
    """Sorted by step, whatever the clock said; foreign names are ignored, a torn copy gets a sentence."""
    early, late = write_some(tmp_path, 1, created=9.0), write_some(tmp_path, 2, created=5.0)
    broken = write_some(tmp_path, 3)
    torn(broken)
    (tmp_path / "aliases").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert [manifest.id for manifest in list_snapshots(tmp_path)] == [early.name, late.name]
    assert [broken.name in sentence for sentence in survey(tmp_path)[1]] == [True]
    assert list_snapshots(tmp_path / "nowhere") == []


def test_a_renamed_snapshot_is_a_sentence(tmp_path: Path) -> None:
    """An id is fixed; a copy under another name would pass for a newer one."""
    path = write_some(tmp_path, 1)
    path.rename(tmp_path / "99999999-00000000")
    with pytest.raises(ModelError, match=rf"holds snapshot {path.name}; rename it to that"):
        load_snapshot(tmp_path / "99999999-00000000")


def test_a_snapshot_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    """It holds titles and the weights of what people like."""
    path = write_some(tmp_path, 1)
    before = os.umask(0o077)
    try:
        path = write_some(tmp_path, 2)
    finally:
        os.umask(before)
    assert {entry.stat().st_mode & 0o077 for entry in (path, *path.iterdir())} == {0}
