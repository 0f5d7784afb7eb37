"""Registering, renewing and deregistering instances."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from discoverd import registration
from discoverd.http import present
from discoverd.http.errors import ApiError
from discoverd.registration import FieldError, Registration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.registry import Registry
    from discoverd.resolver.local import Local


class Registrations(Protocol):
    """Where registrations go (:class:`discoverd.sources.leases.LeaseSource`)."""

    def put(self, registration: Registration) -> Awaitable[bool]:
        """Register or replace; True where it is new."""

    def renew(self, ident: str) -> Registration | None:
        """Begin a lease anew; None where it is gone."""

    def delete(self, ident: str) -> Awaitable[bool]:
        """Deregister; False where there was none."""


class Instances:
    """The requests that change something. ``refusals`` are what registrations raise, with a status each."""

    def __init__(
        self,
        registry: Registry,
        local: Local,
        registrations: Registrations,
        refusals: dict[type[Exception], int],
    ) -> None:
        self._registry, self._local, self._registrations = registry, local, registrations
        self._refusals = refusals

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/v1/instances/{id}", self.put),
            web.post("/v1/instances/{id}/renew", self.renew),
            web.delete("/v1/instances/{id}", self.delete),
        ]

    async def put(self, request: web.Request) -> web.Response:
        """Answered once it is on disk and resolves: 201 where it is new, 200 where it replaces."""
        wanted = await self._parsed(request)
        new = await self._changed(self._registrations.put, wanted)
        domain = self._local.settings.domains[0]
        shown = present.instance(registration.to_instance(wanted), domain)
        return web.json_response({**shown, "lease": wanted.lease}, status=201 if new else 200)

    async def renew(self, request: web.Request) -> web.Response:
        ident = request.match_info["id"]
        found = self._registrations.renew(ident)
        if found is None:
            raise self._unknown(ident)
        return web.json_response({"id": ident, "lease": found.lease})

    async def delete(self, request: web.Request) -> web.Response:
        ident = request.match_info["id"]
        if not await self._changed(self._registrations.delete, ident):
            raise self._unknown(ident)
        return web.Response(status=204)

    async def _parsed(self, request: web.Request) -> Registration:
        ident = _id(request)
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not JSON: {error}") from None
        try:
            return registration.parse(ident, body)
        except FieldError as error:
            raise ApiError(400, error.text, error.field) from None

    async def _changed(self, change: Callable[[Any], Awaitable[bool]], argument: Any) -> bool:
        try:
            return await change(argument)
        except tuple(self._refusals) as error:
            raise ApiError(self._refusals[type(error)], str(error)) from None

    def _unknown(self, ident: str) -> ApiError:
        other = next((i.source for i in self._registry.instances() if i.id == ident), None)
        if other is not None and other != registration.SOURCE:
            return ApiError(404, f"{ident} comes from {other} and is not registered here", "id")
        return ApiError(
            404, f"nothing is registered as {ident[:128]}; a lease that was not renewed is gone", "id"
        )


def _id(request: web.Request) -> str:
    try:
        return registration.parse_id(request.match_info["id"])
    except FieldError as error:
        raise ApiError(400, error.text, error.field) from None
