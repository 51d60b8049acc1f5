"""Aliases: names such as latest and champion for snapshots. A server follows an alias, not a snapshot's id.

    snapshots/<name>/aliases/<alias>     the id of a snapshot and a newline; replaced atomically, never edited
    snapshots/<name>/.lock               held while an alias moves or old snapshots are deleted, so that no alias moves
                                         to a snapshot that is being deleted

The trainer moves LATEST at each snapshot. A rollback moves an alias to the parent of its present snapshot.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from model.errors import ModelError
from model.storage.durable import replace_file
from model.storage.locks import lock_file
from model.storage.snapshot import ID_PATTERN, list_snapshots, read_manifest, remove_snapshot

LATEST: Final = "latest"
FOLDER: Final = "aliases"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def list_aliases(directory: Path) -> dict[str, str]:
    """Return alias → snapshot id, sorted by alias; the snapshot may be gone."""
    folder = directory / FOLDER
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path.read_text().strip() for path in paths if _NAME.fullmatch(path.name)}


def find(directory: Path, alias: str) -> str | None:
    """Return the id that an alias names, None if there is no such alias."""
    try:
        return (directory / FOLDER / _checked(alias)).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"The alias {alias} in {directory} cannot be read: {error.strerror}.") from error


def none_yet(directory: Path) -> str:
    """Return the sentence that there is no snapshot here yet; it names the trainers that have some."""
    others = sorted(path.name for path in directory.parent.glob("*") if path.is_dir() and list_snapshots(path))
    there = f"; there are some of {', '.join(others)} (--name)" if others else "; `hstu train` makes the first"
    return f"There is no snapshot in {directory} yet{there}."


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
        ModelError: The alias is no valid name, the snapshot is missing or unreadable, or the disk refuses.
    """
    _checked(alias)
    with _locked(directory):
        read_manifest(resolve(directory, snapshot_id))
        try:
            (directory / FOLDER).mkdir(exist_ok=True)
            replace_file(directory / FOLDER / alias, f"{snapshot_id}\n".encode())
        except OSError as error:
            raise ModelError(
                f"The alias {alias} in {directory} was not moved: {error.strerror}; it names what it named before."
            ) from error


def rollback(directory: Path, alias: str) -> str:
    """Move an alias to the parent of its present snapshot and return the parent's id.

    Raises:
        ModelError: There is no such alias, the snapshot is the first, or its parent has been deleted.
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
    """Delete all but the `keep` newest snapshots (at least 1) and those that an alias names; return the deleted ids."""
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
