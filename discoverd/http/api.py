"""The HTTP API's requests. Errors are ``{"error": ..., "field": ...}`` with a 4xx status."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from discoverd.http import present
from discoverd.model import SourceState
from discoverd.resolver.explain import as_json, explain, type_number
from discoverd.resolver.outcome import Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.registry import Registry
    from discoverd.resolver.local import Local
    from discoverd.views import Views

    Handled = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Octets of the largest request body that is read.
BODY_MOST = 64 * 1024


class Api:
    """Reads the registry and the resolver; changes nothing."""

    def __init__(self, registry: Registry, local: Local, views: Views, metrics: Callable[[], bytes]) -> None:
        self._registry, self._local, self._views, self._metrics = registry, local, views, metrics

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_errors], client_max_size=BODY_MOST)
        app.add_routes(
            [
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
                web.get("/v1/services", self.services),
                web.get("/v1/services/{name}", self.service),
                web.get("/v1/resolve", self.resolve),
                web.get("/v1/sources", self.sources),
            ]
        )
        return app

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Ready once every source has synced; a source that is only stale does not take it back."""
        waiting = {
            s.name: s.last_error or "first sync not complete"
            for s in self._registry.statuses()
            if s.state is SourceState.SYNCING
        }
        if not waiting:
            return web.json_response({"status": "ready"})
        reason = "; ".join(f"{name}: {why}" for name, why in sorted(waiting.items()))
        return web.json_response({"status": "not ready", "reason": reason}, status=503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def services(self, _request: web.Request) -> web.Response:
        domain = self._local.settings.domains[0]
        return web.json_response({"services": present.services(self._registry.instances(), domain)})

    async def service(self, request: web.Request) -> web.Response:
        """One service by name, in every scope that has it; ``name.scope`` picks one."""
        name = request.match_info["name"].lower().rstrip(".")
        domain = self._local.settings.domains[0]
        name = name.removesuffix("." + domain)
        held = [
            i
            for i in self._registry.instances()
            if name in (i.service, f"{i.service}.{i.scope}") or (not i.in_service and name in i.own_names)
        ]
        if not held:
            return _error(404, f"no service is called {name}", "name")
        return web.json_response({"services": present.services(held, domain)})

    async def resolve(self, request: web.Request) -> web.Response:
        """What a client would be answered, and why."""
        name = request.query.get("name", "").lower().rstrip(".")
        if not name:
            return _error(400, "the parameter name is missing: ?name=web.docker", "name")
        wanted = type_number(request.query.get("type", "A"))
        if wanted is None:
            return _error(400, f"{request.query['type']!r} is no record type, such as A or SRV", "type")
        text = request.query.get("client", "127.0.0.1")
        try:
            client = ip_address(text)
        except ValueError:
            return _error(400, f"{text!r} is no IP address, such as 172.18.0.3", "client")
        explanation = explain(
            self._local, Question(name, wanted), self._views.of(client), self._views.client(client)
        )
        return web.json_response({**as_json(explanation), "client": str(client)})

    async def sources(self, _request: web.Request) -> web.Response:
        rows = [present.source(s, self._registry.count(s.name)) for s in self._registry.statuses()]
        return web.json_response({"sources": rows})


def _error(status: int, text: str, field: str | None = None) -> web.Response:
    return web.json_response({"error": text, "field": field}, status=status)


@web.middleware
async def _errors(request: web.Request, handler: Handled) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        text = f"{request.method} {request.path}: {error.reason.lower()}"
        response = _error(error.status, text)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
