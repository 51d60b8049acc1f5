"""Events as producers send them, and the records that hold them."""

import json
from dataclasses import dataclass
from typing import Any

from tests.oracles import Wire


@dataclass
class Record:
    """A record as a consumer gets it."""

    offset: int
    value: bytes | None
    key: bytes | None = b"key"
    timestamp: int = 0


def wire(event: Wire) -> bytes:
    """Return an event's JSON."""
    return json.dumps(event).encode()


def action(user: str, item: Any, ts: int, **more: Any) -> Wire:
    """Return a click."""
    return {"user_id": user, "item_id": item, "action": "click", "ts": ts, **more}


def impression(user: str, request: str, ts: int, *items: str) -> Wire:
    """Return a slate."""
    return {"user_id": user, "request_id": request, "ts": ts, "items": list(items)}
