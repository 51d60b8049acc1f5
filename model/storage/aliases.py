"""Aliases: names such as latest and champion for snapshots; what serves a model follows a name, not an id.

    snapshots/<name>/aliases/<alias>     the id of a snapshot and a newline; replaced atomically, never edited
    snapshots/<name>/.lock               held while an alias moves or old snapshots are deleted, so that no alias is
                                         moved to what is being deleted

The trainer moves LATEST at each snapshot. Rolling back is moving an alias to the parent of its present snapshot.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from model.errors import ModelError
from model.storage.durable import sync_directory
from model.storage.snapshot import ID_PATTERN, list_snapshots, read_manifest, remove_snapshot

LATEST: Final = "latest"
FOLDER: Final = "aliases"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def list_aliases(directory: Path) -> dict[str, str]:
    """Give alias → snapshot id, in order of the aliases; an id may name a snapshot that is gone."""
    folder = directory / FOLDER
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path.read_text().strip() for path in paths if _NAME.fullmatch(path.name)}


def find(directory: Path, alias: str) -> str | None:
    """Give the id that an alias names; None: there is no such alias."""
    try:
        return (directory / FOLDER / _checked(alias)).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"The alias {alias} in {directory} cannot be read: {error.strerror}.") from error


def none_yet(directory: Path) -> str:
    """Say that there is no snapshot, and whose there are."""
    others = sorted(path.name for path in directory.parent.glob("*") if path.is_dir() and list_snapshots(path))
    there = f"; there are some of {', '.join(others)} (--name)" if others else "; `hstu train` makes the first"
    return f"There is no snapshot in {directory} yet{there}."


def resolve(directory: Path, name: str) -> Path:
    """Give the path of the snapshot with this id or alias.

    Raises:
        ModelError: there is none; the sentence lists the aliases there are.
    """
    found = name if ID_PATTERN.fullmatch(name) else find(directory, name)
    if found is None and not list_snapshots(directory):
        raise ModelError(none_yet(directory))
    if found is None:
        known = ", ".join(list_aliases(directory)) or "none"
        raise ModelError(f"{name!r} is neither a snapshot nor an alias in {directory}; the aliases are: {known}.")
    if not (directory / found).is_dir():
        also = "" if found == name else f", to which the alias {name} points,"
        raise ModelError(f"The snapshot {found}{also} is not in {directory}; `hstu snapshots list` shows what is.")
    return directory / found


def move(directory: Path, alias: str, snapshot_id: str) -> None:
    """Point an alias, new or old, to a snapshot, durably and at once for every reader.

    Raises:
        ModelError: the alias is no name, the snapshot is not there or not readable, or the disk refuses.
    """
    _checked(alias)
    with _locked(directory):
        read_manifest(resolve(directory, snapshot_id))
        try:
            _replace(directory / FOLDER / alias, snapshot_id + "\n")
        except OSError as error:
            raise ModelError(
                f"The alias {alias} in {directory} was not moved: {error.strerror}; it names what it named before."
            ) from error


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def rollback(directory: Path, alias: str) -> str:
    """Move an alias to the parent of its present snapshot and give the parent's id.

    Raises:
        ModelError: there is no such alias, the snapshot is the first, or its parent has been deleted.
    """
    present = read_manifest(resolve(directory, alias))
    if not present.parent:
        raise ModelError(f"{alias} names {present.id}, the first snapshot of its run; there is nothing before it.")
    if not (directory / present.parent).is_dir():
        raise ModelError(
            f"{alias} names {present.id}, whose parent {present.parent} has been deleted; choose another by "
            f"`hstu snapshots list` and `hstu snapshots alias {alias} ID`."
        )
    move(directory, alias, present.parent)
    return present.parent


def gc(directory: Path, keep: int) -> list[str]:
    """Delete all but the `keep` newest snapshots (at least one) and those that an alias names; give the deleted ids."""
    if keep < 1:
        raise ModelError(f"keep is {keep}; at least 1 snapshot, the newest, is always kept.")
    with _locked(directory):
        named = set(list_aliases(directory).values())
        old = [manifest.id for manifest in list_snapshots(directory)[:-keep] if manifest.id not in named]
        for snapshot_id in old:
            try:
                remove_snapshot(directory / snapshot_id)
            except OSError as error:
                raise ModelError(
                    f"The snapshot {directory / snapshot_id} cannot be deleted: {error.strerror}."
                ) from error
    return old


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    if not directory.is_dir():
        raise ModelError(none_yet(directory))
    try:
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ModelError(f"The directory {directory} cannot be locked: {error.strerror}; is it writable?") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _checked(alias: str) -> str:
    if not _NAME.fullmatch(alias) or ID_PATTERN.fullmatch(alias):
        raise ModelError(
            f"{alias!r} is no name for an alias: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or "
            "digit, and not like a snapshot's id."
        )
    return alias
