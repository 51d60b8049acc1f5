"""The query service on a free port, in a thread of the test, and a client of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from model.config import ServeSettings
from model.serving.http.app import make_http_app
from model.serving.http.server import listen, make_server
from tests.served import NOW_MS, Memory, tokens_of

USERS = {"ada": tokens_of("country=NO", "i1", "i1 click", "i3 like"), "eve": tokens_of("i1 click", "i4 click")}
SETTINGS = ServeSettings(poll_s=0.02)


def until(true: Callable[[], Any], what: str) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + 120  # a cold start compiles
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


@contextmanager
def serving(
    data_dir: Path, sequences: Any = None, settings: ServeSettings = SETTINGS, **options: Any
) -> Iterator[httpx.Client]:
    """Run a real server on a free port, and yield a client of it."""
    wall_s = NOW_MS / 1000 + 10
    app = make_http_app(settings, data_dir, sequences or Memory(USERS), wall=lambda: wall_s, **options)
    with listen("127.0.0.1", 0) as listener:
        server = make_server(app, settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started, "the server did not start")
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(30)
