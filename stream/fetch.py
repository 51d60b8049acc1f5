"""What another process answers over HTTP, with a bound on its time, from the connection to the last byte, and on its
bytes; never through a proxy, and never from where it points to.

Nothing of it is trusted: what it sends may trickle, never end, or be no HTTP.
"""

import io
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from stream.errors import HstuError
from stream.schema.printable import printable
from stream.timed_reader import TimedReader, time_left

_PORTS: Final = {"http": 80, "https": 443}


class FetchError(HstuError):
    """There is no whole answer; the text is a reason, as part of a sentence."""


class Answer(NamedTuple):
    """What came."""

    status: int
    kind: str  # Content-Type, printable, empty if there is none
    body: bytes


class _Response(HTTPResponse):
    """A response that is read up to a moment."""

    def __init__(self, source: socket.socket, until_s: float) -> None:
        super().__init__(source)
        self.fp.close()
        self.fp = io.BufferedReader(TimedReader(source, until_s))


def fetch(
    url: str,
    *,
    timeout_s: float,
    most_bytes: int,
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """Return the answer to a GET, or to a POST of a body.

    Args:
        url: Of http: or https:.
        timeout_s: For all of it; only the resolution of a name may take longer.
        most_bytes: Of the body of the answer.
        body: Of the request.
        headers: Of the request.

    Raises:
        FetchError: The answer did not come in time, is too long, was cut off, or is no HTTP; or the URL is none.
    """
    try:
        return _fetch(url, time.monotonic() + timeout_s, most_bytes, body, headers)
    except TimeoutError:
        raise FetchError("timed out") from None
    except (OSError, HTTPException, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".rstrip(": ")
        raise FetchError(printable(why)[:300]) from None


def _fetch(url: str, until_s: float, most_bytes: int, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url} is no http: or https: URL")
    port = parts.port or _PORTS[parts.scheme]
    with _connect(parts.hostname, port, parts.scheme == "https", until_s) as source:
        connection = HTTPConnection(parts.hostname, port)
        connection.sock = source
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET" if body is None else "POST", path, body, {"Connection": "close", **headers})
        response = _Response(source, until_s)
        response.begin()
        return Answer(response.status, printable(response.headers.get("Content-Type", "")), _read(response, most_bytes))


def _connect(host: str, port: int, secure: bool, until_s: float) -> socket.socket:
    """Return a connection to the first address of a host that takes one."""
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        source = socket.socket(family, kind, protocol)
        try:
            source.settimeout(time_left(until_s))
            source.connect(address)
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # header and body leave apart
            return ssl.create_default_context().wrap_socket(source, server_hostname=host) if secure else source
        except OSError as error:
            source.close()
            last = error
    raise last


def _read(response: Any, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        HTTPException: It is longer than allowed, or shorter than it said.
    """
    body: bytes = response.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise HTTPException(f"the answer has more than {most_bytes:,} bytes")
    if response.length:
        raise IncompleteRead(body, response.length)
    return body
