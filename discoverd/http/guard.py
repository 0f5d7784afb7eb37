"""Who may read, who may change something, and what every response says to browsers.

What only this machine may, a web page that a browser on this machine shows must not be able to do
for somebody else: cross-site requests and foreign host names are refused.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from discoverd.http.errors import ApiError

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from discoverd.http.errors import Handled

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Requests that change nothing although their method could.
SAFE_PATHS = frozenset({"/dns-query"})
#: Requests that tell nothing, from whoever looks whether the server is well.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """``token``: what a change must carry. ``beyond``: whether others than this machine can connect."""

    token: str | None = None
    beyond: bool = False


def guard(access: Access) -> Middleware:
    """The middleware that refuses requests by those who may not make them."""

    @web.middleware
    async def check(request: web.Request, handler: Handled) -> web.StreamResponse:
        if not access.beyond and request.path not in OPEN_PATHS:
            _by_local_name(request)
        if request.method not in SAFE_METHODS and request.path not in SAFE_PATHS:
            _may_change(request, access)
        return await handler(request)

    return check


def _may_change(request: web.Request, access: Access) -> None:
    _same_site(request)
    if access.token is None:
        if access.beyond:
            raise ApiError(
                403,
                "read-only: the server listens beyond loopback without a token;"
                " set http.token, or listen on 127.0.0.1",
            )
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    good = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), access.token.encode())
    if scheme.lower() != "bearer" or not good:
        raise ApiError(
            401,
            "this needs the header Authorization: Bearer with the server's http.token",
            headers={"WWW-Authenticate": 'Bearer realm="discoverd"'},
        )


def _by_local_name(request: web.Request) -> None:
    """A name that somebody else made point to this machine is what their page is asked by (DNS rebinding)."""
    if not _is_local_name(request.host):
        raise ApiError(
            403,
            f"a server on loopback is asked at an IP address or localhost, not at {request.host};"
            " a proxy in front of it has to say so in the Host header",
        )


def _same_site(request: web.Request) -> None:
    """Browsers say where a request comes from; other clients say nothing."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise ApiError(403, "a page of another site may not change anything here")


def _is_local_name(host: str) -> bool:
    """Whether a Host header cannot be a name that somebody else made point here (DNS rebinding)."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
