"""The progress of a replay: one small JSON file per name, always replaced as a whole.

    version        1
    fingerprint    of the source, the partitions and the prefix of the topics
    total          number of events
    acknowledged   events that Kafka has acknowledged, up to the first hole
    offsets        "topic/partition" → the offset behind the last of them
    complete       true after the end of time has been acknowledged

Records behind these offsets may have been written without being counted here. A continued replay finds them in Kafka
and skips them, so that nothing is written twice (kafka_sink.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import Timeout
from msgspec import Struct, structs

from model.storage.durable import replace_file
from model.storage.locks import lock_file
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
        SimError: Another process does already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_file(path.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise SimError(f"Another process replays as {path.stem}; stop it, or give another --name.") from None
    try:
        yield
    finally:
        lock.release()


def load_state(path: Path, fingerprint: str) -> ReplayState | None:
    """Read the state of an earlier replay, None if there was none.

    Raises:
        SimError: The file is damaged, of another version, or of another replay.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = msgspec.json.decode(content, type=ReplayState)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SimError(f"{path} cannot be read ({error}); begin again by --restart.") from None
    if state.version != VERSION:
        raise SimError(f"{path} has version {state.version}, this program knows {VERSION}; begin again by --restart.")
    if state.fingerprint != fingerprint:
        raise SimError(
            f"{path} is of another log, other options, or other topics; "
            "begin again by --restart, or keep both by another --name (a log that goes on after it: --name day-2 "
            "--append)."
        )
    return state


def save_state(path: Path, state: ReplayState) -> None:
    """Replace the file durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(structs.asdict(state))))
