"""Checkpoints: everything that a trainer knows, at one moment, from which it continues to the same bits.

    <data_dir>/train/<name>/cut-<number>/
        state.safetensors   arrays: weights, moments, tables, vocabularies, catalogue, baselines, tallies
        manifest.json       {"format": "hstu-stream cut", "version": 6, "state": its size and xxh3_128, "facts": {…},
                             "facts_xxh3_128": of the facts as JSON with sorted keys and without spaces}

`facts` are whatever JSON the trainer needs beside the arrays: step, digests, settings, and for every partition the
offset of the first record that is not yet trained on. A crash at any step of the writing leaves the checkpoint before:

    1. state.safetensors, then manifest.json, are written into .cut-<number>.part; both are synced
    2. the folder is synced and renamed to cut-<number>, and the folder above is synced: from here on it counts
    3. checkpoints older than the last two are removed

Beside them `farewell` says in its first line how the last run ended: `ended` (all of its log is learned), `stopped`
(what it has learned is in the newest checkpoint) or `diverged` (its loss was not finite), in its second on which
HOST:PORT its metrics were, if a port was set.
It is removed when a run begins, so one that crashed has left none.

`beginning` is there until the first checkpoint of a run that begins with another trainer's weights, or at a point in
time: {"name": "silu", "since_ms": 1700000000001}, either may be empty. A run that was killed before goes on by it.

What a crash between 1 and 2 has left is removed before the next 1, and by `remove_unfinished`.

Nothing is pickled: reading a checkpoint runs no code.
"""

import itertools
import json
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from xxhash import xxh3_128_hexdigest

from model.errors import ModelError
from model.storage.array_file import write_arrays
from model.storage.durable import read_plain, rename_synced, replace_file, write_synced
from model.storage.snapshot import file_digest

FORMAT: Final = "hstu-stream cut"
VERSION: Final = 8
KEEP: Final = 2
FAREWELLS: Final = ("ended", "stopped", "diverged")
_FAREWELL: Final = "farewell"
_BEGINNING: Final = "beginning"
_STATE, _MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a checkpoint."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under the next number and return its folder.

    Raises:
        ModelError: The disk is full or not writable; the checkpoints that were there still are.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return _write(directory, checkpoint)
    except OSError as error:
        raise ModelError(
            f"No checkpoint could be written to {directory}: {error.strerror or error}; make room or give it back its "
            "permissions. Those written before are whole, and the trainer goes on from the last, if there is one."
        ) from error


def _write(directory: Path, checkpoint: Checkpoint) -> Path:
    numbers = _numbers(directory)
    number = max(numbers, default=0) + 1
    part, final = directory / f".cut-{number:08d}.part", directory / f"cut-{number:08d}"
    remove_unfinished(directory)
    try:
        _write_part(part, checkpoint)  # 1
        rename_synced(part, final)  # 2
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)  # it would keep a full disk full
        raise
    for old in sorted([*numbers, number])[:-KEEP]:  # 3
        shutil.rmtree(directory / f"cut-{old:08d}", ignore_errors=True)
    return final


def _write_part(part: Path, checkpoint: Checkpoint) -> None:
    part.mkdir()
    size, digest = write_arrays(part / _STATE, checkpoint.arrays)
    facts = checkpoint.facts
    manifest = {"format": FORMAT, "version": VERSION, "state": {"bytes": size, "xxh3_128": digest}, "facts": facts}
    manifest["facts_xxh3_128"] = _facts_digest(facts)
    write_synced(part / _MANIFEST, json.dumps(manifest, indent=1).encode())


def remove_unfinished(directory: Path) -> None:
    """Remove what killed processes have left half written; only the process that trains there may do so."""
    for stray in directory.glob(".cut-*.part"):
        shutil.rmtree(stray, ignore_errors=True)


def read_newest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole, and a sentence on each newer one that was passed over.

    Raises:
        ModelError: There are checkpoints, but none can be read, or a newer hstu-stream wrote one.
    """
    complaints: list[str] = []
    for number in sorted(_numbers(directory), reverse=True):
        found = _read(directory / f"cut-{number:08d}")
        if isinstance(found, Checkpoint):
            return found, complaints
        complaints.append(found)
    if complaints:
        raise ModelError(
            f"None of the checkpoints in {directory} can be read: {' '.join(complaints)} Restore one from a backup, or "
            "remove the folder to train from the beginning."
        )
    return None, []


def _read(path: Path) -> Checkpoint | str:
    """Return the checkpoint in a folder, or the sentence that says what is wrong with it."""
    try:
        manifest = json.loads(read_plain(path / _MANIFEST))
        state = {"bytes": (path / _STATE).stat().st_size, "xxh3_128": file_digest(path / _STATE)}
    except (OSError, ValueError, RecursionError) as error:
        return f"The checkpoint {path} is passed over, since it is not whole ({error})."
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return f"The checkpoint {path} is passed over, since its {_MANIFEST} is not one of hstu-stream."
    if manifest.get("version") != VERSION:
        raise ModelError(
            f"The checkpoint {path} has version {manifest.get('version')}, and this hstu-stream reads "
            f"version {VERSION}; go on with the hstu-stream that wrote it, or train under another --name without "
            "its weights."
        )
    if manifest.get("state") != state:
        return f"The checkpoint {path} is passed over, since {_STATE} is damaged: another digest than promised."
    facts = manifest.get("facts")
    try:
        if not isinstance(facts, dict) or manifest.get("facts_xxh3_128") != _facts_digest(facts):
            return f"The checkpoint {path} is passed over, since its facts in {_MANIFEST} are not as they were written."
        return Checkpoint(load_file(path / _STATE), facts)
    except (OSError, SafetensorError, RecursionError) as error:
        return f"The checkpoint {path} is passed over, since it cannot be decoded ({error!r})."


def _facts_digest(facts: dict[str, Any]) -> str:
    as_read = json.loads(json.dumps(facts))  # where keys are strings
    return xxh3_128_hexdigest(json.dumps(as_read, sort_keys=True, separators=(",", ":")).encode())


def _numbers(directory: Path) -> list[int]:
    return [int(path.name[4:]) for path in directory.glob("cut-*") if re.fullmatch(r"cut-[0-9]{8,18}", path.name)]


def say_beginning(directory: Path, name: str, since_ms: int | None) -> bytes | None:
    """Write down with whose weights a run begins, and at which time; return what was said before."""
    path = directory / _BEGINNING
    before = path.read_bytes() if path.exists() else None
    replace_file(path, json.dumps({"name": name, "since_ms": since_ms}).encode())
    return before


def take_back_beginning(directory: Path, before: bytes | None) -> None:
    """Write back what was said before, as a start is refused."""
    if before is None:
        forget_beginning(directory)
    else:
        replace_file(directory / _BEGINNING, before)


def beginning(directory: Path) -> tuple[str, int | None] | None:
    """Return what `say_beginning` has written, None where a run has its first checkpoint, or began with nothing.

    Raises:
        ModelError: It cannot be read.
    """
    path = directory / _BEGINNING
    try:
        told = json.loads(read_plain(path))
        return str(told["name"]), told["since_ms"] if told["since_ms"] is None else int(told["since_ms"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"The file {path}, which says how a run begins, cannot be read: {error}; give --weights-from or --since "
            "again, or delete it to begin with nothing."
        ) from error


def forget_beginning(directory: Path) -> None:
    """Remove it: the first checkpoint says the same."""
    (directory / _BEGINNING).unlink(missing_ok=True)


def say_farewell(directory: Path, how: str, metrics_port: int = 0) -> None:
    """Write down how a run ended, one of FAREWELLS, and where its metrics were; port 0: a free one was taken."""
    where = f"{socket.gethostname()}:{metrics_port}\n" if metrics_port else ""
    replace_file(directory / _FAREWELL, f"{how}\n{where}".encode())


def take_back_farewell(directory: Path) -> None:
    """Remove the farewell of the run before, as another begins."""
    (directory / _FAREWELL).unlink(missing_ok=True)


def farewell(directory: Path) -> str | None:
    """Return how the last run ended; None where one runs, has crashed, or there was none."""
    said = _farewell_lines(directory)[0]
    return said if said in FAREWELLS else None


def farewell_address(directory: Path) -> str | None:
    """Return the HOST:PORT of the last run's metrics, HOST by its own name; None where it runs, or took a free port."""
    return _farewell_lines(directory)[1] or None


def _farewell_lines(directory: Path) -> tuple[str, str]:
    try:
        how, address, *_ = *(directory / _FAREWELL).read_text().splitlines(), "", ""
    except (OSError, UnicodeError):
        return "", ""
    return how.strip(), address.strip()


def free_name(directory: Path) -> str:
    """Return a name for a trainer that goes on with what the one of this folder has learned: silu-2, silu-3, …"""
    numbered = re.fullmatch(r"(.+)-([1-9]\d{0,8})", directory.name)
    base, number = (numbered[1], int(numbered[2])) if numbered else (directory.name, 1)
    names = (f"{base}-{n}" for n in itertools.count(number + 1))
    return next(name for name in names if not (directory.parent / name).exists())
