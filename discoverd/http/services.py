"""What the registry knows and what the resolver would say."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from discoverd.http import present
from discoverd.http.errors import ApiError
from discoverd.http.targets import targets
from discoverd.resolver.explain import as_json, explain, type_number
from discoverd.resolver.outcome import Question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.model import Instance, IPAddress
    from discoverd.registry import Registry
    from discoverd.resolver.local import Local
    from discoverd.views import Views

#: RFC 1035 section 2.3.4, as text without the final dot; a name of spaces is nobody's.
NAME = r"[!-~]{1,253}"


class Services:
    """Reads the registry and the resolver."""

    def __init__(self, registry: Registry, local: Local, views: Views) -> None:
        self._registry, self._local, self._views = registry, local, views

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/services", self.all),
            web.get("/v1/services/{name}", self.one),
            web.get("/v1/resolve", self.resolve),
            web.get("/v1/prometheus-sd", self.prometheus),
        ]

    async def all(self, request: web.Request) -> web.StreamResponse:
        return await self._write(request, self._registry.instances())

    async def one(self, request: web.Request) -> web.StreamResponse:
        """One service by name, in every scope that has it; ``name.scope`` picks one."""
        name = self._relative(request.match_info["name"])
        held = [i for i in self._registry.instances() if name in _service_names(i)]
        if not held:
            raise ApiError(404, f"no service is called {name}", "name")
        return await self._write(request, held)

    async def resolve(self, request: web.Request) -> web.Response:
        """What a client would be answered, and why; without ``client``, the one that asks."""
        query = request.query
        name = query.get("name", "").lower().rstrip(".")
        if not name:
            raise ApiError(400, "the parameter name is missing: ?name=web.docker", "name")
        if not re.fullmatch(NAME, name):
            raise ApiError(400, f"{name[:60]!r} is no DNS name, such as web.docker", "name")
        text = query.get("type", "A")
        wanted = type_number(text)
        if wanted is None:
            raise ApiError(400, f"{text[:60]!r} is no record type, such as A or SRV", "type")
        client = self._client(query["client"]) if "client" in query else peer(request)
        views = self._views
        explanation = explain(self._local, Question(name, wanted), views.of(client), views.client(client))
        return web.json_response({**as_json(explanation), "client": str(client)})

    async def prometheus(self, request: web.Request) -> web.Response:
        """Targets for Prometheus' ``http_sd_config``, at addresses that the asker can reach."""
        service, port = request.query.get("service", ""), request.query.get("port")
        instances: Iterable[Instance] = self._registry.instances()
        if service:
            name = self._relative(service)
            instances = [i for i in instances if name in (i.service, f"{i.service}.{i.scope}")]
        view = self._views.of(peer(request))
        return web.json_response(targets(instances, view, port, self._local.hosts))

    def _relative(self, name: str) -> str:
        name = name.lower().rstrip(".")
        for domain in self._local.settings.domains:
            name = name.removesuffix("." + domain)
        return name

    async def _write(self, request: web.Request, instances: Iterable[Instance]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        pieces = present.services(instances, self._local.settings.domains[0])
        first = await anext(pieces)  # the state of now, before anything can change it
        await response.prepare(request)
        await response.write(b'{"services": ' + first.encode())
        async for piece in pieces:
            await response.write(piece.encode())
        await response.write_eof(b"}")
        return response

    @staticmethod
    def _client(text: str) -> IPAddress:
        try:
            return ip_address(text)
        except ValueError:
            raise ApiError(400, f"{text[:60]!r} is no IP address, such as 172.18.0.3", "client") from None


def _service_names(value: Instance) -> tuple[str, ...]:
    if not (value.in_service or value.task):
        return value.own_names
    return value.service, f"{value.service}.{value.scope}"


def peer(request: web.Request) -> IPAddress:
    """Whom the connection comes from. Headers of proxies are not believed."""
    assert request.transport is not None
    address = request.transport.get_extra_info("peername")[0]
    return ip_address(address.partition("%")[0])
