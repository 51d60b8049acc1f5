"""How far a replay has come: one small JSON file per name, replaced as a whole.

    version        1
    fingerprint    of the source, the partitions and the prefix of the topics
    total          events in all
    acknowledged   events that Kafka has acknowledged, without a hole
    offsets        "topic/partition" → the offset behind the last of them
    complete       true after the end of time has been acknowledged

Records behind these offsets may have been written without being counted here; a continued replay reads them in Kafka
and leaves them out, so that nothing is written twice (kafka_sink.py).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from sim.errors import SimError

VERSION = 1


class ReplayState(Struct, kw_only=True):
    """The content of the file."""

    fingerprint: str
    total: int
    offsets: dict[str, int]
    acknowledged: int = 0
    complete: bool = False
    version: int = VERSION


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from replaying under this name while the block runs.

    Raises:
        SimError: one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimError(f"Another process replays as {path.stem}; stop it, or give another --name.") from None
        yield


def load_state(path: Path, fingerprint: str) -> ReplayState | None:
    """Read the state of an earlier replay, None if there was none.

    Raises:
        SimError: the file is damaged, of another version, or of another replay.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = msgspec.json.decode(content, type=ReplayState)
    except msgspec.MsgspecError as error:
        raise SimError(f"{path} cannot be read ({error}); begin anew by --restart.") from None
    if state.version != VERSION:
        raise SimError(f"{path} has version {state.version}, this program knows {VERSION}; begin anew by --restart.")
    if state.fingerprint != fingerprint:
        raise SimError(
            f"{path} is of another log, other options, or other topics; "
            "begin anew by --restart, or keep both by another --name."
        )
    return state


def save_state(path: Path, state: ReplayState) -> None:
    """Replace the file: written aside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(structs.asdict(state))))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
