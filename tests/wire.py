"""Events as producers send them, and the records that hold them."""

import json
from dataclasses import dataclass
from typing import Any

from stream.schema.record_time import Headers, replay_headers
from tests.oracles import Wire

REPLAYED = replay_headers(0)


@dataclass
class Record:
    """A record as a consumer gets it; a replayed one, unless its headers say otherwise."""

    offset: int
    value: bytes | None
    key: bytes | None = b"key"
    timestamp: int = 0
    headers: Headers = REPLAYED


def wire(event: Wire) -> bytes:
    """Return an event's JSON."""
    return json.dumps(event).encode()


def action(user: str, item: Any, ts: int, **more: Any) -> Wire:
    """Return a click."""
    return {"user_id": user, "item_id": item, "action": "click", "ts": ts, **more}


def impression(user: str, request: str, ts: int, *items: str) -> Wire:
    """Return a slate."""
    return {"user_id": user, "request_id": request, "ts": ts, "items": list(items)}
