"""Who may ask: the Host that a request names, its token, and the pages of other origins.

A server on loopback needs no token, but checks Host: a page of some website can make a browser send requests to
127.0.0.1 under the website's own name (DNS rebinding). A server that others can reach needs a token.
"""

import hmac
import ipaddress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from model.config import ServeSettings
from model.errors import ModelError

PROBES: Final = ("/live", "/ready")
_PAGES: Final = ("/", "/docs", "/openapi.json")  # the same for every server; a browser cannot send a token for a page
ASSETS: Final = "/dashboard/static/"  # nor for these
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_LEAST_BYTES: Final = 16


def read_token(settings: ServeSettings) -> str:
    """Return the token that clients must send, empty if none is needed.

    Raises:
        ModelError: Both settings are given, the file cannot be read, or the token is no header's text or too short.
    """
    token, source = settings.token.get_secret_value(), "serve.token"
    if settings.token_file:
        if token:
            raise ModelError("serve.token and serve.token_file are both set; keep one of them.")
        source = f"serve.token_file {settings.token_file}"
        try:
            token = Path(settings.token_file).read_text().strip()
        except (OSError, UnicodeError) as error:
            raise ModelError(f"The {source} cannot be read: {error}; write the token into it.") from None
    if (token or settings.token_file) and (len(token) < _LEAST_BYTES or not token.isascii() or not token.isprintable()):
        raise ModelError(
            f"The token in {source} is refused: give at least {_LEAST_BYTES} printable ASCII characters, such as those "
            "of `openssl rand -hex 32`."
        )
    return token


def check_reach(address: str, token: str) -> None:
    """Refuse to serve without a token where others can reach it; raises ModelError."""
    if not token and not is_loopback(address):
        raise ModelError(
            f"{address} can be reached from other machines: set a token, by the variable HSTU_SERVE__TOKEN or a file "
            "named by serve.token_file, or listen on 127.0.0.1."
        )


def is_loopback(address: str) -> bool:
    """Return whether an IP address is reached from this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def allowed_hosts(settings: ServeSettings, local: bool) -> frozenset[str]:
    """Return the names that Host may have, none if it may have any: elsewhere than on loopback, or by "*"."""
    if "*" in settings.hosts or not (local or settings.hosts):
        return frozenset()
    return frozenset(name.lower().rstrip(".") for name in (*_LOCAL, settings.host, *settings.hosts))


def with_hosts(app: ASGIApp, hosts: frozenset[str]) -> ASGIApp:
    """Wrap the application: refuse requests for another host, but no probe."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES or _host_name(scope) in hosts:
            await app(scope, receive, send)
            return
        detail = "This server does not answer to the name in the header Host; serve.hosts lists further names."
        await JSONResponse({"detail": detail}, 421)(scope, receive, send)

    return checked


def _host_name(scope: Scope) -> str:
    """Return the name in Host, without the dot of a full domain name."""
    try:
        return (urlsplit("//" + Headers(scope=scope).get("host", "")).hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


def with_token(app: ASGIApp, token: str) -> ASGIApp:
    """Wrap the application: refuse requests without the token, but no probe and not the pages that describe it all."""
    wanted = token.encode()

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or hmac.compare_digest(_bearer(scope), wanted):
            await app(scope, receive, send)
            return
        headers: dict[str, Any] = {"WWW-Authenticate": "Bearer"}
        detail = "The token is missing or wrong; send the header Authorization: Bearer TOKEN."
        await JSONResponse({"detail": detail}, 401, headers)(scope, receive, send)

    return checked


def _is_open(path: str) -> bool:
    return path in (*PROBES, *_PAGES) or path.startswith(("/docs/", ASSETS))


def _bearer(scope: Scope) -> bytes:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
