"""A server that answers every request with given bytes, at once, a byte at a time, or without an end."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Way = Literal["at once", "trickling", "endless"]


@contextmanager
def answering(answer: bytes, way: Way = "at once") -> Iterator[tuple[str, list[bytes]]]:
    """Yield its address, and the requests that have come.

    Args:
        answer: What is sent.
        way: Trickling: a byte each 20 ms; endless: the last 64 KiB again and again.
    """
    requests: list[bytes] = []
    stopped = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            requests.append(connection.recv(65536))
            for part in _parts(answer, way):
                if stopped.is_set():
                    return
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # closed with something unread, it would be reset
                pass

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", requests
        finally:
            stopped.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _parts(answer: bytes, way: Way) -> Iterable[bytes]:
    if way == "endless":
        return itertools.chain([answer], itertools.repeat(answer[-1:] * 65536))
    return _slowly(answer) if way == "trickling" else [answer]


def _slowly(answer: bytes) -> Iterator[bytes]:
    for byte in answer:
        yield bytes([byte])
        time.sleep(0.02)
