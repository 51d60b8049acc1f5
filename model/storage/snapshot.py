"""Snapshots: immutable directories that hold everything a query needs, each with a manifest that describes it.

    snapshots/<name>/                 of one trainer
        00001234-1a2b3c4d/            <step>-<digest of the arrays>
            arrays.safetensors        weights, counts, vocabularies, catalogue, popularity; no pickle anywhere
            manifest.json             format, id, parent, times, settings, metrics, digests; size of the arrays
        aliases/                      see aliases.py
        .writing-*, .deleting-*       unfinished; readers ignore them, and the next writer or gc removes them. A writer
                                      holds a lock on its .writing-* as long as it lives, so that no other removes it

A snapshot is written aside and renamed, so under its name there is the whole of it or nothing. Only one process writes
to a directory at a time; any number read.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from xxhash import xxh3_128

from model.errors import ModelError
from model.storage.array_file import write_arrays
from model.storage.durable import check_plain, read_plain, rename_synced, write_synced
from stream.example import JsonBoundsError, check_json

FORMAT: Final = 6  # of the directory; raised whenever an older reader could misread it
KIND: Final = "hstu-stream snapshot"
ARRAYS: Final = "arrays.safetensors"
MANIFEST: Final = "manifest.json"
ID_PATTERN: Final = re.compile(r"[0-9]{8,18}-[0-9a-f]{8}")
_WRITING, _DELETING = ".writing-", ".deleting-"
_BLOCK_BYTES: Final = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a snapshot; the writer fills in id, arrays_bytes and arrays_digest."""

    format: int = FORMAT
    kind: str = KIND
    id: str = ""
    name: str
    """Name of the trainer."""
    parent: str = ""
    """Id of the snapshot before it in the same run; empty for the first."""
    created: Annotated[float, Meta(ge=0)]
    """Wall time in seconds since 1970."""
    watermark_ms: int
    """Event time up to which everything was trained on; where the log has ended, the end of time."""
    event_ms: int = 0
    """Event time at which the last example trained on became final; 0: not known."""
    offsets: dict[str, list[int]] = {}
    """Topic → next offset of each partition."""
    step: Annotated[int, Meta(ge=0, lt=10**18)]
    """Micro-batches trained on."""
    examples: int = 0
    targets: int = 0
    rank_targets: int = 0
    """Targets that the ranking towers were trained on; 0: their probabilities mean nothing yet."""
    settings: dict[str, dict[str, Any]] = {}
    """Tables "model" and "train"."""
    metrics: dict[str, Any] = {}
    """Prequential metrics at this moment."""
    hold: str = ""
    """Why the promotion gate holds it: a drift that the model has not recovered from; empty: it does not."""
    digests: dict[str, str] = {}
    """Hex digests of "sequences", "examples", "model"."""
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    versions: dict[str, str] = {}
    arrays_bytes: int = 0
    arrays_digest: str = ""


class _Head(msgspec.Struct):
    format: int
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One snapshot in memory."""

    path: Path
    manifest: Manifest
    arrays: Mapping[str, NDArray[Any]]


def write_snapshot(directory: Path, *, arrays: Mapping[str, Any], manifest: Manifest) -> Path:
    """Write one snapshot durably and return its path, whose last part is its id.

    Steps: 1 a directory aside; 2 the arrays, fsynced; 3 the manifest, fsynced; 4 fsync of the directory aside, rename
    to the id, fsync of the parent. A crash before the rename leaves nothing that a reader would take for a snapshot.
    If the same snapshot is already there and whole, as when a trainer resumed and repeats a step, nothing changes.

    Args:
        directory: Folder of all snapshots of this trainer; made if missing.
        arrays: Name → numpy array or torch tensor.
        manifest: All of it except id, arrays_bytes and arrays_digest.

    Raises:
        ModelError: The disk is full or not writable, or an array's dtype has no place in the format.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        clear_leftovers(directory)
        with _aside(directory) as aside:  # 1
            full = _write_arrays(aside / ARRAYS, arrays, manifest)  # 2
            write_synced(aside / MANIFEST, msgspec.json.format(msgspec.json.encode(full, enc_hook=_plain)))  # 3
            return _settle(aside, directory / full.id)  # 4
    except OSError as error:
        raise ModelError(_unwritable(directory, error)) from error


@contextmanager
def _aside(directory: Path) -> Iterator[Path]:
    """Make a temporary directory and lock it, as a sign that its writer lives; remove it unless it was renamed."""
    aside = Path(tempfile.mkdtemp(prefix=_WRITING, dir=directory))
    handle = os.open(aside, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(handle)


def clear_leftovers(directory: Path) -> None:
    """Remove what killed processes have left half written or half deleted."""
    for path in directory.iterdir():
        if path.name.startswith((_WRITING, _DELETING)) and not _is_locked(path):
            _remove(path)


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # its owner has just renamed or removed it
    except OSError:
        return False  # a link or a file, which no writer makes
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _remove(path: Path) -> None:
    """Remove a folder as far as possible; of a link to one, the link."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_arrays(path: Path, arrays: Mapping[str, Any], manifest: Manifest) -> Manifest:
    size, digest = write_arrays(path, as_numpy(arrays))
    _remember(path, digest)
    return msgspec.structs.replace(manifest, id=_id(manifest.step, digest), arrays_bytes=size, arrays_digest=digest)


def _id(step: int, digest: str) -> str:
    return f"{step:08d}-{digest[:8]}"


def as_numpy(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return arrays or tensors as numpy arrays, views of them where possible.

    Raises:
        ModelError: A dtype has no place in the format.
    """
    return {name: _as_numpy(name, array) for name, array in arrays.items()}


def _as_numpy(name: str, array: Any) -> NDArray[Any]:
    if hasattr(array, "detach"):  # a torch tensor; torch is not imported here, since the CLI must start quickly
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":
            raise ModelError(f"Array {name} is bfloat16, which a snapshot does not hold; convert it to float32.")
        array = array.numpy()
    return np.asarray(array, order="C")  # unlike ascontiguousarray, this keeps scalars scalars


def _settle(aside: Path, final: Path) -> Path:
    if final.exists():
        if _is_whole(final):
            return final
        remove_snapshot(final)
    rename_synced(aside, final)
    return final


def _is_whole(path: Path) -> bool:
    try:
        verified_manifest(path)
    except ModelError:
        return False
    return True


def remove_snapshot(path: Path) -> None:
    """Delete a snapshot so that no reader lists a part of it: rename first, then remove."""
    doomed = path.with_name(f"{_DELETING}{path.name}-{os.urandom(4).hex()}")
    path.rename(doomed)
    _remove(doomed)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a manifest cannot hold a {type(value).__name__}")


def _unwritable(directory: Path, error: OSError) -> str:
    hint = "check that it is writable"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, or keep fewer snapshots (train.keep_snapshots, `hstu snapshots gc`)"
    return f"No snapshot could be written to {directory}: {error.strerror or error}; {hint}. The ones there are whole."


def file_digest(path: Path) -> str:
    """Return the xxh3_128 of a file's bytes, in hex; raises OSError where it cannot be read, or is no plain file."""
    hasher = xxh3_128()
    check_plain(path)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def digest_once(path: Path) -> str:
    """Return file_digest, read once in a process for as long as the file is the same one by inode, time and size."""
    if (digest := digests_known.get(_key(path))) is None:
        _remember(path, digest := file_digest(path))
    return digest


def _key(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_dev} {stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"


def _remember(path: Path, digest: str) -> None:
    if len(digests_known) >= _DIGESTS_KEPT:
        digests_known.clear()
    digests_known[_key(path)] = digest


digests_known: dict[str, str] = {}
"""What digest_once has found; a process that writes beside another one hands on what it has found."""
_DIGESTS_KEPT: Final = 1000


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a snapshot, without reading its arrays.

    Raises:
        ModelError: There is no snapshot, or it is foreign, torn, damaged, or of a newer format.
    """
    try:
        data = read_plain(path / MANIFEST)
    except OSError as error:
        if path.is_dir():
            raise ModelError(
                f"{path} holds no readable {MANIFEST} ({error.strerror}), so it is no snapshot, or a torn copy."
            ) from None
        raise ModelError(f"There is no snapshot at {path}; `hstu snapshots list` shows those there are.") from None
    try:
        check_json(data)
        head = msgspec.json.decode(data, type=_Head)
        if head.kind != KIND:
            raise ModelError(f"{path} is foreign: its manifest says {head.kind!r} instead of {KIND!r}.")
        if head.format != FORMAT:
            raise ModelError(
                f"The snapshot {path} has format {head.format}, but this hstu-stream reads format {FORMAT}; "
                + ("upgrade hstu-stream." if head.format > FORMAT else "take one that a trainer writes now.")
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (JsonBoundsError, msgspec.DecodeError, UnicodeError) as error:
        raise ModelError(f"The manifest of {path} is foreign or damaged: {error}; take another snapshot.") from None
    if manifest.id != _id(manifest.step, manifest.arrays_digest):
        raise ModelError(
            f"The manifest of {path} was edited: its id is {manifest.id!r}, but step {manifest.step} and the digest "
            f"{manifest.arrays_digest!r} make another; take another snapshot."
        )
    if manifest.id != path.name:
        raise ModelError(f"The directory {path} holds snapshot {manifest.id}; rename it to that, since ids are fixed.")
    _check_size(path, manifest)
    return manifest


def _check_size(path: Path, manifest: Manifest) -> None:
    try:
        check_plain(path / ARRAYS)
        size = (path / ARRAYS).stat().st_size
    except OSError as error:
        raise ModelError(f"The snapshot {path} lacks {ARRAYS} ({error.strerror}); take another snapshot.") from None
    if size != manifest.arrays_bytes:
        raise ModelError(
            f"The snapshot {path} is torn: {ARRAYS} has {size} bytes, its manifest says {manifest.arrays_bytes}; "
            "take another snapshot."
        )


def verified_manifest(path: Path, digest_of: Callable[[Path], str] = file_digest) -> Manifest:
    """Return the manifest after checking every byte of the arrays against it; raises as read_manifest.

    Args:
        path: The snapshot.
        digest_of: file_digest, or digest_once where the same snapshots are looked at again and again.
    """
    manifest = read_manifest(path)
    try:
        digest = digest_of(path / ARRAYS)
    except OSError as error:
        raise ModelError(f"The arrays of snapshot {path} cannot be read: {error.strerror}.") from None
    if digest != manifest.arrays_digest:
        raise ModelError(
            f"The snapshot {path} is damaged: {ARRAYS} has the digest {digest}, its manifest says "
            f"{manifest.arrays_digest}; take another snapshot."
        )
    return manifest


def load_snapshot(path: Path) -> Snapshot:
    """Read a whole snapshot, after checking its format, sizes and digest.

    Raises:
        ModelError: As read_manifest, or a byte is not what was written.
    """
    manifest = verified_manifest(path)
    try:
        return Snapshot(path, manifest, load_file(path / ARRAYS))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The arrays of snapshot {path} cannot be read: {error}; take another snapshot.") from None


def survey(directory: Path) -> tuple[list[Manifest], list[str]]:
    """Return the snapshots of a directory by step, and a sentence about each that cannot be read."""
    manifests, sentences = [], []
    for path in entries(directory):
        if ID_PATTERN.fullmatch(path.name):
            try:
                manifests.append(read_manifest(path))
            except ModelError as error:
                sentences.append(str(error))
    return sorted(manifests, key=lambda manifest: (manifest.step, manifest.created, manifest.id)), sentences


def entries(directory: Path) -> list[Path]:
    """Return what lies in a directory, by name; nothing if there is none.

    Raises:
        ModelError: It cannot be read, so that nobody should act as if it were empty.
    """
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ModelError(f"The folder {directory} cannot be read: {error.strerror}; is it yours?") from None


def list_snapshots(directory: Path) -> list[Manifest]:
    """Return the readable snapshots of a directory by step; none if there is no directory."""
    return survey(directory)[0]
