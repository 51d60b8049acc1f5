"""Small logs in files, and the events that they become."""

import json
from pathlib import Path
from typing import Any

from sim.sources.open_log import open_log
from sim.sources.recorded_log import RecordedLog

START_S = 1_700_000_000


def log_of(path: Path, content: str | bytes, **flags: Any) -> RecordedLog:
    """Write a file and read it by these flags."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_log([str(path)], flags)


def events_of(log: RecordedLog) -> list[dict[str, Any]]:
    """Return the JSON of all events."""
    return [json.loads(event.value or b"") for event in log.events()]


def triples(log: RecordedLog) -> list[tuple[str, str, int]]:
    """Return user, item and seconds of all actions, in order."""
    return [(event["user_id"], event["item_id"], event["ts"] // 1000) for event in events_of(log) if "item_id" in event]
