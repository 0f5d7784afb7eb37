"""The HTTP side as a whole: which requests there are, and what they all have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from discoverd.http.cache import Cache
from discoverd.http.count import Requests
from discoverd.http.doh import DnsQuery
from discoverd.http.errors import errors
from discoverd.http.events import Events
from discoverd.http.guard import Access, add_headers, guard
from discoverd.http.instances import Instances
from discoverd.http.openapi import description
from discoverd.http.page import Page
from discoverd.http.services import Services
from discoverd.http.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.http.doh import Exchange
    from discoverd.http.instances import Registrations
    from discoverd.registry import Registry
    from discoverd.resolver.local import Local
    from discoverd.views import Views

#: Octets of the largest request body that is read.
BODY_MOST = 64 * 1024


@dataclass(frozen=True)
class Parts:
    """What the requests read and write. ``refusals``: what registrations raise, and the status of each."""

    registry: Registry
    local: Local
    views: Views
    registrations: Registrations
    refusals: dict[type[Exception], int]
    exchange: Exchange
    metrics: Callable[[], Awaitable[bytes]]
    workers: Callable[[], list[dict[str, Any]]] = list
    flush: Callable[[str | None], int] = lambda _name: 0


class Api:
    """All requests of docs/http.md."""

    def __init__(self, parts: Parts, access: Access) -> None:
        registry, local = parts.registry, parts.local
        self._access = access
        self.requests = Requests()
        self.events = Events(registry, local)
        self._groups = (
            Status(registry, parts.metrics, parts.workers),
            Services(registry, local, parts.views),
            Instances(registry, local, parts.registrations, parts.refusals),
            DnsQuery(parts.exchange),
            Cache(parts.flush),
            self.events,
            Page(),
        )

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[self.requests.middleware(), errors, guard(self._access)], client_max_size=BODY_MOST
        )
        for group in self._groups:
            app.add_routes(group.routes())
        app.add_routes([web.get("/v1/openapi.json", self.openapi)])
        app.on_response_prepare.append(add_headers)
        app.on_shutdown.append(self.events.end)
        return app

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.json_response(description())
