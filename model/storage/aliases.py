"""Aliases: names such as latest and champion for snapshots. A server follows an alias, not a snapshot's id. Pins.

    snapshots/<name>/aliases/<alias>     the id of a snapshot and a newline; replaced atomically, never edited
    snapshots/<name>/aliases/.<alias>.*  one half written by a process that was killed; the next move removes it
    snapshots/<name>/pins/<id>           an empty file: this snapshot is never deleted, whether an alias names it or not
    snapshots/<name>/promotions.jsonl    a JSON line (Decision) for each decision of the gate (promotion.py), each move
                                         by hand and each rollback
    snapshots/<name>/.lock               held while an alias moves, a pin is set or old snapshots are deleted, so that
                                         no alias moves to a snapshot that is being deleted

Anything else in that folder is named and passed over. The trainer moves LATEST at each snapshot. A rollback moves an
alias to what it named before, or, where nothing is written of that, to the parent of its present snapshot.
"""

import logging
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import SEEK_END
from pathlib import Path
from typing import Final

import msgspec

from model.errors import ModelError
from model.storage.durable import replace_file
from model.storage.locks import lock_file
from model.storage.snapshot import (
    ID_PATTERN,
    Manifest,
    clear_leftovers,
    digest_once,
    entries,
    list_snapshots,
    read_manifest,
    remove_snapshot,
    survey,
    verified_manifest,
)

LATEST: Final = "latest"
FOLDER: Final = "aliases"
PINS: Final = "pins"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST: Final = 64  # bytes of an alias's file that are read; an id has 27 at most
DECISIONS: Final = "promotions.jsonl"
_ROLLED_BACK: Final = "rolled back by hand"
_READ: Final = 2**22  # bytes of the decisions that are read, the newest
_log: Final = logging.getLogger("hstu.snapshots")


class Window(msgspec.Struct, frozen=True):
    """What the last window of a snapshot's metrics says about its model."""

    end: int
    """Targets tested until the snapshot was made."""
    targets: int
    """Targets of the window."""
    model: float
    """HR@10 of the model."""
    counts: float
    """HR@10 of its counts alone on the same targets."""


class Decision(msgspec.Struct, frozen=True):
    """What became of a snapshot that an alias was to name."""

    at: float
    """Wall time in seconds since 1970."""
    alias: str
    before: str | None
    """What the alias named until then."""
    candidate: str
    moved: bool
    reason: str
    window: Window | None = None
    """That of the candidate by which the gate judged it; None: moved by hand."""


_decoder: Final = msgspec.json.Decoder(Decision)


def list_aliases(directory: Path) -> dict[str, str]:
    """Return alias → snapshot id, sorted by alias; the snapshot may be gone."""
    return survey_aliases(directory)[0]


def survey_aliases(directory: Path) -> tuple[dict[str, str], list[str]]:
    """Return alias → snapshot id, sorted by alias, and a sentence about everything else in their folder."""
    aliases, sentences = {}, []
    for path in entries(directory / FOLDER):
        if not path.name.startswith("."):
            try:
                aliases[_checked(path.name)] = _read(path)
            except (ModelError, OSError) as error:
                sentences.append(f"{path} is no alias, and is passed over: {error}")
    return aliases, sentences


def _read(path: Path) -> str:
    """Return the id in an alias's file.

    Raises:
        ModelError: It holds something else, as it may lead anywhere; or it is no file.
        OSError: It cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelError("it is no file.")
    with path.open("rb") as file:
        text = file.read(_LONGEST).decode("ascii", errors="replace").strip()
    if not ID_PATTERN.fullmatch(text):
        raise ModelError(f"it holds {text!r}, which is no snapshot's id.")
    return text


def find(directory: Path, alias: str) -> str | None:
    """Return the id that an alias names, None if there is no such alias.

    Raises:
        ModelError: It is no valid name, or its file cannot be read or holds no id.
    """
    path = directory / FOLDER / _checked(alias)
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"The alias {alias} in {directory} cannot be read: {error.strerror}.") from error
    except ModelError as error:
        raise ModelError(
            f"The alias {alias} in {directory} cannot be followed: {error} Point it to a snapshot by "
            f"`hstu snapshots alias {alias} ID`."
        ) from None


def none_yet(directory: Path) -> str:
    """Return the sentence that there is no snapshot here yet; it names the trainers that have some."""
    others = [path.name for path in entries(directory.parent) if _has_snapshots(path)]
    there = f"; there are some of {', '.join(others)} (--name)" if others else "; `hstu train` makes the first"
    return f"There is no snapshot in {directory} yet{there}."


def _has_snapshots(path: Path) -> bool:
    with suppress(ModelError):  # another user's
        return bool(list_snapshots(path))
    return False


def resolve(directory: Path, name: str) -> Path:
    """Return the path of the snapshot with this id or alias.

    Raises:
        ModelError: There is none; the sentence lists the aliases.
    """
    found = name if ID_PATTERN.fullmatch(name) else find(directory, name)
    if found is None and not list_snapshots(directory):
        raise ModelError(none_yet(directory))
    if found is None:
        names = ", ".join(list_aliases(directory)) or "none"
        raise ModelError(f"{name!r} is neither a snapshot nor an alias in {directory}; the aliases are: {names}.")
    if not (directory / found).is_dir():
        also = "" if found == name else f", to which the alias {name} points,"
        raise ModelError(f"The snapshot {found}{also} is not in {directory}; `hstu snapshots list` shows what is.")
    return directory / found


def move(directory: Path, alias: str, snapshot_id: str) -> None:
    """Point an alias, new or old, to a snapshot, durably and at once for every reader.

    Raises:
        ModelError: The alias is no valid name, the snapshot is missing or damaged, or the disk refuses.
    """
    _checked(alias)
    with _locked(directory):
        verified_manifest(resolve(directory, snapshot_id), digest_once)
        try:
            (directory / FOLDER).mkdir(exist_ok=True)
            _clear_unfinished(directory / FOLDER)
            replace_file(directory / FOLDER / alias, f"{snapshot_id}\n".encode())
        except OSError as error:
            raise ModelError(
                f"The alias {alias} in {directory} was not moved: {error.strerror}; it names what it named before."
            ) from error


def _clear_unfinished(folder: Path) -> None:
    """Remove what killed processes have left beside the aliases; whoever holds the lock is the only one that writes."""
    for path in entries(folder):
        if path.name.startswith(".") and path.is_file():
            path.unlink()


def pins(directory: Path) -> set[str]:
    """Return the ids of the snapshots that are pinned; a snapshot may be gone, if somebody removed its folder."""
    return {path.name for path in entries(directory / PINS) if ID_PATTERN.fullmatch(path.name)}


def pin(directory: Path, name: str) -> str:
    """Keep the snapshot with this id or alias from being deleted, and return its id.

    Raises:
        ModelError: There is none, or the disk refuses.
    """
    with _locked(directory):
        snapshot_id = resolve(directory, name).name
        try:
            (directory / PINS).mkdir(exist_ok=True)
            replace_file(directory / PINS / snapshot_id, b"")
        except OSError as error:
            raise ModelError(f"The snapshot {snapshot_id} in {directory} was not pinned: {error.strerror}.") from error
    return snapshot_id


def unpin(directory: Path, name: str) -> str:
    """Take a snapshot's pin away, and return its id; it is deleted once it is old and no alias names it.

    Raises:
        ModelError: It is not pinned, or the disk refuses.
    """
    with _locked(directory):
        snapshot_id = name if name in pins(directory) else resolve(directory, name).name
        try:
            (directory / PINS / snapshot_id).unlink()
        except FileNotFoundError:
            those = ", ".join(sorted(pins(directory))) or "none"
            raise ModelError(f"The snapshot {snapshot_id} in {directory} is not pinned; pinned are: {those}.") from None
        except OSError as error:
            raise ModelError(f"The snapshot {snapshot_id} in {directory} stays pinned: {error.strerror}.") from error
    return snapshot_id


def move_by_hand(directory: Path, alias: str, snapshot_id: str, now_s: float, reason: str = "moved by hand") -> None:
    """Point an alias to a snapshot and write down what it named before, if it named anything else.

    Raises:
        ModelError: As `move`.
    """
    before = survey_aliases(directory)[0].get(alias)
    move(directory, alias, snapshot_id)
    if before not in (None, snapshot_id):
        note(directory, Decision(now_s, alias, before, snapshot_id, moved=True, reason=reason))


def note(directory: Path, decision: Decision) -> None:
    """Write a decision down."""
    with (directory / DECISIONS).open("ab") as file:
        file.write(msgspec.json.encode(decision) + b"\n")


def moves(directory: Path, alias: str) -> list[Decision]:
    """Return the decisions that moved an alias, the newest first; lines that are none are passed over."""
    try:
        with (directory / DECISIONS).open("rb") as file:
            file.seek(max(0, file.seek(0, SEEK_END) - _READ))
            lines = file.readlines()
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            decision = _decoder.decode(line)
            if decision.moved and decision.alias == alias:
                found.append(decision)
    return found


def rollback(directory: Path, alias: str, now_s: float) -> str:
    """Move an alias to what it named before its present snapshot, write that down, and return the id.

    Raises:
        ModelError: There is no such alias, it has named nothing before, or that has been deleted.
    """
    present = read_manifest(resolve(directory, alias))
    before = _before(directory, alias, present)
    if not before:
        raise ModelError(f"{alias} names {present.id}, the first snapshot that it named; there is nothing before it.")
    if not (directory / before).is_dir():
        raise ModelError(
            f"{alias} names {present.id}, and {before}, to which it would go back, has been deleted; choose another by "
            f"`hstu snapshots list` and `hstu snapshots alias {alias} ID`."
        )
    move_by_hand(directory, alias, before, now_s, _ROLLED_BACK)
    return before


def _before(directory: Path, alias: str, present: Manifest) -> str | None:
    """Return what an alias named before its present snapshot; the parent where nothing is written; None: nothing."""
    for decision in moves(directory, alias):
        if decision.candidate == present.id and decision.reason != _ROLLED_BACK:
            return decision.before
    return present.parent or None


def gc(directory: Path, keep: int, tell: Callable[[str], None] = _log.warning) -> list[str]:
    """Delete old snapshots, and return their ids, oldest first.

    Kept are the `keep` newest (at least 1) of which every byte is as it was written, those that an alias names or to
    which it would be rolled back, and those that are pinned. Damaged ones among these are kept too, and not counted.

    Args:
        directory: Folder of the snapshots of one trainer.
        keep: How many to keep.
        tell: Called with a sentence about each damaged one, and about each alias that cannot be read.
    """
    if keep < 1:
        raise ModelError(f"keep is {keep}; at least 1 snapshot, the newest, is always kept.")
    with _locked(directory):
        clear_leftovers(directory)
        aliases, sentences = survey_aliases(directory)
        for sentence in sentences:
            tell(sentence)
        kept = {*aliases.values(), *pins(directory)}
        for alias, to in aliases.items():
            kept.update(each.before for each in moves(directory, alias) if each.before and each.candidate == to)
        old = [each for each in _older(directory, keep, tell) if each not in kept]
        for snapshot_id in old:
            try:
                remove_snapshot(directory / snapshot_id)
            except OSError as error:
                raise ModelError(
                    f"The snapshot {directory / snapshot_id} cannot be deleted: {error.strerror}."
                ) from error
    return old


def _older(directory: Path, keep: int, tell: Callable[[str], None]) -> list[str]:
    """Return the ids of the snapshots before the `keep` newest whole ones, oldest first."""
    manifests, sentences = survey(directory)
    for sentence in sentences:
        tell(sentence)
    while manifests and keep:
        try:
            verified_manifest(directory / manifests.pop().id, digest_once)
            keep -= 1
        except ModelError as error:
            tell(str(error))
    return [manifest.id for manifest in manifests]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    if not directory.is_dir():
        raise ModelError(none_yet(directory))
    lock = lock_file(directory / ".lock")
    try:
        lock.acquire()
    except OSError as error:
        raise ModelError(f"The directory {directory} cannot be locked: {error.strerror}; is it writable?") from error
    try:
        yield
    finally:
        lock.release()


def _checked(alias: str) -> str:
    if not _NAME.fullmatch(alias) or ID_PATTERN.fullmatch(alias):
        raise ModelError(
            f"{alias!r} is no name for an alias: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or "
            "digit, and not like a snapshot's id."
        )
    return alias
