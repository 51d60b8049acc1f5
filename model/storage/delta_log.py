"""The delta log: what changed since a snapshot, in numbered files that a server follows from state to state.

    snapshots/<name>/deltas/<root>/             the chain that begins with the snapshot <root>
        000001-<digest>.safetensors             number, and the xxh3_128 of the file's bytes
        000009-<digest>-<id>.safetensors        the last one: it leads to the arrays of the next snapshot, <id>

A file holds the arrays of a patch (patch.py); the metadata of its header have one entry, "delta": the JSON of a Delta.
Each names the digest of the state before it and of the one after it, so that no delta is applied to anything but what
it was made from, and what comes out is what was meant, to the bit. A chain is written by one process, which keeps the
last state that it published; one that starts again begins a new chain with its next snapshot.

Steps: 1 the file aside, fsynced, renamed; 2 the snapshot of a last delta is there before it, and the alias moves after
it. So a server that finds a last delta follows it as soon as the alias names its snapshot, and need not load that.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from xxhash import xxh3_128_hexdigest

from model.errors import ModelError
from model.storage.durable import read_plain, replace_file
from model.storage.patch import Patch, difference, misfit, patched, state_digest
from model.storage.snapshot import Manifest, Snapshot, entries, load_snapshot
from stream.example import JsonBoundsError, check_json

FORMAT: Final = 1
KIND: Final = "hstu-stream delta"
FOLDER: Final = "deltas"
_NAME: Final = re.compile(r"([0-9]{6,12})-([0-9a-f]{32})(?:-([0-9]{8,18}-[0-9a-f]{8}))?\.safetensors")
_log: Final = logging.getLogger("hstu.snapshots")
_STAYS: Final = "Answers go on with what there is until the next snapshot."


class BegunAnewError(ModelError):
    """A chain is another than that which a state has followed."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What a delta says of itself."""

    format: int = FORMAT
    kind: str = KIND
    root: str
    """Id of the snapshot that the chain begins with."""
    number: int
    """Place in the chain, from 1."""
    before: str
    """Digest of the state it is for (patch.state_digest)."""
    after: str
    """Digest of the state it leads to."""
    threshold: float
    """Share of a row's largest number up to which moves were held back; 0: none were."""
    patch: Patch
    manifest: Manifest
    """Of the state it leads to: as of a snapshot, with that state's digest in place of a file's."""


class _Head(msgspec.Struct):
    format: int
    kind: str


class DeltaLog:
    """Writes the chains of one trainer.

    Args:
        directory: Folder of the trainer's snapshots.
        threshold: As patch.difference; the last delta of a chain is exact whatever it is.
    """

    def __init__(self, directory: Path, threshold: float) -> None:
        self._directory, self._threshold = directory / FOLDER, threshold
        self._root, self._number, self._state = "", 0, ""
        self._published: Mapping[str, NDArray[Any]] = {}

    @property
    def begun(self) -> bool:
        """Whether there is a snapshot to which deltas can be added."""
        return bool(self._root)

    def append(self, arrays: Mapping[str, NDArray[Any]], manifest: Manifest, becomes: str = "") -> Path:
        """Write what changed since the last call durably, and return its file.

        Args:
            arrays: The arrays of a snapshot as they are now; views of memory that will change are copied.
            manifest: The manifest of a snapshot as of now, without id and digest.
            becomes: Id of the snapshot with these arrays that has just been written; it ends the chain.

        Raises:
            ModelError: The disk is full or not writable.
        """
        threshold = 0.0 if becomes else self._threshold
        patch, parts = difference(self._published, arrays, threshold)
        published = patched(self._published, patch, parts)
        after = state_digest(published)
        delta = Delta(
            root=self._root,
            number=self._number + 1,
            before=self._state,
            after=after,
            threshold=threshold,
            patch=patch,
            manifest=msgspec.structs.replace(
                manifest, id=becomes or _id_between(manifest.step, after), parent=self._root, arrays_digest=after
            ),
        )
        data = save(parts, {"delta": msgspec.json.encode(delta, enc_hook=_plain).decode()})
        ending = f"-{becomes}" if becomes else ""
        path = self._directory / self._root / f"{delta.number:06d}-{xxh3_128_hexdigest(data)}{ending}.safetensors"
        try:
            replace_file(path, data)
        except OSError as error:
            raise ModelError(f"No delta could be written to {path.parent}: {error.strerror or error}.") from error
        self._published, self._number, self._state = published, delta.number, after
        return path

    def begin(self, root: str, arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> None:
        """End the chain so far, if there is one, and begin that of a snapshot; older chains are removed.

        A snapshot with the arrays of the one that the chain began with is that one: the chain leads back to them, and
        goes on. Call it after the snapshot was written, and before an alias moves to it.
        """
        before = self._root
        if before == root:
            self.append(arrays, manifest)
            return
        if before:
            self.append(arrays, manifest, root)
        else:
            self._published = {name: np.array(array) for name, array in arrays.items()}
            self._state = state_digest(self._published)
        self._root, self._number = root, 0
        try:
            for path in entries(self._directory):
                if path.name != before:
                    shutil.rmtree(path)
            (self._directory / root).mkdir(parents=True)
        except OSError as error:
            raise ModelError(f"No deltas can be kept in {self._directory}: {error.strerror or error}.") from error


def _id_between(step: int, after: str) -> str:
    """Return the id of a state that no snapshot has; a snapshot's is made of its file's digest (snapshot.py)."""
    return f"{step:08d}-{after[:8]}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a delta cannot hold a {type(value).__name__}")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A snapshot, or what deltas have made of it."""

    snapshot: Snapshot
    root: str
    number: int = 0
    digest: str = ""  # of the arrays; empty until a delta asks for it


def has_chain(directory: Path, root: str) -> bool:
    """Return whether a trainer writes deltas to a snapshot."""
    return (directory / FOLDER / root).is_dir()


def chain_files(directory: Path, root: str) -> frozenset[tuple[str, int]] | None:
    """Return name and time of writing of the deltas to a snapshot, None where there is no chain.

    More are only ever added: where one of these is gone, the chain was begun anew.
    """
    folder = directory / FOLDER / root
    paths = [path for found in _listed(folder).values() for path, _ in found]
    try:
        return frozenset((path.name, path.stat().st_mtime_ns) for path in paths) if folder.is_dir() else None
    except FileNotFoundError:  # it is being removed
        return None


def next_state(directory: Path, state: State, wanted: str) -> State | None:
    """Return the state after the next delta, None if there is none.

    A chain that has ended is followed only if `wanted` is the snapshot it leads to: an alias that names its root still,
    or again, does not mean what came after. A delta that is named as the last is one if its header says so; what is not
    named so counts as one in the middle until it is read.

    Args:
        directory: Folder of the trainer's snapshots.
        state: The state so far; it is not changed.
        wanted: Id of the snapshot that the alias names.

    Raises:
        BegunAnewError: A trainer that was started again has begun the chain anew, from its snapshot.
        ModelError: The next delta is missing, there are two of it, it is damaged, or it is not for this state.
    """
    folder, number = directory / FOLDER / state.root, state.number + 1
    found = _listed(folder)
    here = state.snapshot.path
    if state.number and folder.is_dir() and here not in [path for path, _ in found.get(state.number, [])]:
        raise BegunAnewError(f"The chain in {folder} no longer has {here.name}, which was followed. {_STAYS}")
    last = [number for number, names in found.items() if any(ending for _, ending in names)]
    if last and min(last) < max(found):
        raise ModelError(
            f"Delta {min(last)} in {folder} is named as the last, and there is {max(found)}: one was renamed. {_STAYS}"
        )
    named = [(path, ending) for names in found.values() for path, ending in names if ending]
    if wanted not in {ending for _, ending in named}:
        ends = {becomes(read_head(path)) for path, _ in named} - {""}
        if wanted not in (ends or {state.root}):
            return None
    if number not in found and any(other > number for other in found):
        found = _listed(folder)  # a folder that is written to while it is listed may show a later file alone
    paths = [path for path, _ in found.get(number, [])]
    if len(paths) > 1:
        raise ModelError(f"There are {len(paths)} deltas with the number {number} in {folder}. {_STAYS}")
    if not paths:
        if later := [other for other in found if other > number]:
            raise ModelError(f"Delta {number} is missing in {folder}, where there is {min(later)}. {_STAYS}")
        return None
    return _after(paths[0], state, number)


def with_deltas(directory: Path, state: State) -> Snapshot:
    """Return a snapshot with all deltas that have been written to it; a refused one and those after it are left out."""
    root, first = state.root, state
    try:
        while has_chain(directory, root):
            try:
                after = next_state(directory, state, root)
            except BegunAnewError:
                after = first
            if after is None:
                break
            state = after
    except ModelError as error:
        _log.warning("%s", error)
    return state.snapshot


def verified_deltas(directory: Path, root: str) -> int:
    """Return how many deltas lead on from a snapshot, after following all of them as a server does.

    Args:
        directory: Folder of the trainer's snapshots.
        root: The snapshot; it is loaded only where there are deltas.

    Raises:
        ModelError: As load_snapshot or next_state.
    """
    paths = deltas_to(directory, root)
    if not paths:
        return 0
    ending = _NAME.fullmatch(paths[-1].name)
    wanted = (ending and ending[3]) or root
    state = State(load_snapshot(directory / root), root)
    for number in range(len(paths)):
        after = next_state(directory, state, wanted)
        if after is None:
            return number
        state = after
    return len(paths)


def deltas_to(directory: Path, root: str) -> list[Path]:
    """Return the files of the deltas to a snapshot, in their order; none where no trainer writes any."""
    folder = directory / FOLDER / root
    return [path for _, found in sorted(_listed(folder).items()) for path, _ in found]


def _listed(folder: Path) -> dict[int, list[tuple[Path, str]]]:
    """Return number -> files, and of each the id of the snapshot it leads to."""
    found: dict[int, list[tuple[Path, str]]] = {}
    for path in entries(folder):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append((path, match[3] or ""))
    return found


def _after(path: Path, state: State, number: int) -> State:
    """Return the state after a delta."""
    delta, parts = read_delta(path)
    digest, arrays = state.digest or state_digest(state.snapshot.arrays), state.snapshot.arrays
    ending = _NAME.fullmatch(path.name)
    misnamed = ending and (ending[3] or "") != becomes(delta)
    if becomes(delta) == state.root:
        raise ModelError(
            f"The delta {path} leads back to the snapshot {state.root} that its chain begins with. {_STAYS}"
        )
    if misnamed or (delta.root, delta.number) != (state.root, number):
        raise ModelError(
            f"The delta {path} is number {delta.number} after {delta.root}, to {delta.manifest.id}: it was "
            f"renamed, or brought from another chain. {_STAYS}"
        )
    if why := misfit(arrays, delta.patch):
        raise ModelError(f"The delta {path} does not fit: {why}. {_STAYS}")
    if delta.before != digest:
        raise ModelError(
            f"The delta {path} belongs to another chain: it is for the state {delta.before}, and there is {digest}. "
            f"{_STAYS}"
        )
    try:
        after = patched(arrays, delta.patch, parts)
    except ModelError as error:
        raise ModelError(f"The delta {path} is damaged: {error}. {_STAYS}") from None
    if state_digest(after) != delta.after:
        raise ModelError(f"The delta {path} does not lead to the state {delta.after} that it names. {_STAYS}")
    snapshot = Snapshot(path, delta.manifest, after)
    if ending and ending[3]:
        return State(snapshot, ending[3], 0, delta.after)
    return replace(state, snapshot=snapshot, number=number, digest=delta.after)


def becomes(delta: Delta) -> str:
    """Return the id of the snapshot that a delta leads to, empty if it is not the last of its chain."""
    return "" if delta.manifest.id == _id_between(delta.manifest.step, delta.after) else delta.manifest.id


def read_delta(path: Path) -> tuple[Delta, dict[str, NDArray[Any]]]:
    """Return a delta and the arrays of its patch, after checking every byte.

    Raises:
        ModelError: It cannot be read, is damaged or foreign, or has another format.
    """
    with _refusing(path):
        digest = xxh3_128_hexdigest(read_plain(path))
        if digest != path.name.split("-")[1].removesuffix(".safetensors"):
            raise ModelError(
                f"The delta {path} is damaged: it has the digest {digest}, its name says another. {_STAYS}"
            )
        delta = read_head(path)
        with safe_open(path, "numpy") as file:
            return delta, {name: file.get_tensor(name) for name in delta.patch.parts()}


def read_head(path: Path) -> Delta:
    """Return what a delta says of itself, without a look at the rest of its bytes.

    Raises:
        ModelError: It cannot be read, is foreign, or has another format.
    """
    with _refusing(path), safe_open(path, "numpy") as file:
        text = ((file.metadata() or {}).get("delta") or "").encode()
        check_json(text)
        head = msgspec.json.decode(text, type=_Head)
        if (head.kind, head.format) != (KIND, FORMAT):
            raise ModelError(
                f"{path} is a {head.kind!r} of format {head.format}, but this hstu-stream reads {KIND!r} of format "
                f"{FORMAT}. {_STAYS}"
            )
        return msgspec.json.decode(text, type=Delta)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Refuse what cannot be read with a sentence that names it."""
    try:
        yield
    except (OSError, SafetensorError, JsonBoundsError, msgspec.DecodeError, UnicodeError) as error:
        raise ModelError(f"The delta {path} cannot be read: {error}. {_STAYS}") from None
