"""How the server is: alive, ready, its sources, its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from discoverd.http import present
from discoverd.model import SourceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoverd.registry import Registry


class Status:
    def __init__(
        self,
        registry: Registry,
        metrics: Callable[[], Awaitable[bytes]],
        workers: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._registry, self._metrics, self._workers = registry, metrics, workers

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/v1/sources", self.sources),
        ]

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
            body=await self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def sources(self, _request: web.Request) -> web.Response:
        return web.json_response({"sources": present.sources(self._registry), "workers": self._workers()})
