"""The access log: one line a request, as text or JSON, on standard output.

    2026-11-26T18:21:13.123Z 127.0.0.1 GET /topk 200 4.1 ms
    {"time": "2026-11-26T18:21:13.123Z", "client": "127.0.0.1", "method": "GET", "path": "/topk", …, "ms": 4.1}

Neither query parameters (ids of users) nor headers (the token) are written. The path is as it was sent, in percent
encoding.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from starlette.types import Scope

from model.config import AccessLogFormat

_PATH: Final = 200  # characters that are shown


def access_log(
    style: AccessLogFormat, write: Callable[[str], object], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Callable[[Scope, int, float], None]:
    """Return a function that logs a request by its scope, status and seconds."""

    def log(scope: Scope, status: int, seconds: float) -> None:
        fields = {
            "time": now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "client": (scope.get("client") or ("-",))[0],
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1")[:_PATH],
            "status": status,
            "ms": round(1000 * seconds, 1),
        }
        write(json.dumps(fields) if style == "json" else " ".join(map(str, fields.values())) + " ms")

    return log if style != "off" else lambda *_: None
