"""Server-sent events: a snapshot, then each change as it happens.

A client that does not keep up is not waited for: what it has not read yet is dropped, and it gets a
new snapshot. (https://html.spec.whatwg.org/multipage/server-sent-events.html)
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import web

from discoverd.http import present
from discoverd.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoverd.registry import Change, Registry
    from discoverd.resolver.local import Local

#: Streams at once; each holds a connection.
CLIENTS_MOST = 200
#: Changes, and bytes of them, that wait for one client.
WAITING_MOST, WAITING_BYTES_MOST = 500, 1024 * 1024
#: A change of more instances than this is told as a snapshot, which is written without blocking.
CHANGE_MOST = 200
#: Seconds of silence after which a comment is sent: middleboxes drop silent connections.
HEARTBEAT_SECONDS = 15.0
#: Seconds for a client to take a write.
WRITE_SECONDS = 30.0


class Client:
    """What waits to be sent to one stream; `gone` tells whether its connection has ended."""

    def __init__(self, gone: Callable[[], bool] = lambda: False) -> None:
        self.gone = gone
        self.wake = asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._lost = True  # the first thing to send is a snapshot

    def offer(self, data: bytes) -> None:
        if not self._lost:
            self._waiting.append(data)
            self._bytes += len(data)
            if len(self._waiting) > WAITING_MOST or self._bytes > WAITING_BYTES_MOST:
                self.lose()
        self.wake.set()

    def lose(self) -> None:
        """Forget what waits: a snapshot replaces it."""
        self._waiting.clear()
        self._bytes, self._lost = 0, True
        self.wake.set()

    def take(self) -> bytes | None:
        """All that waits; None where a snapshot is due instead."""
        self.wake.clear()
        if self._lost:
            self._lost = False
            return None
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return data


class Events:
    """Tells every stream what the registry tells it."""

    def __init__(self, registry: Registry, local: Local) -> None:
        self._registry, self._local = registry, local
        self.clients: set[Client] = set()
        self._ending = False
        self._leave = registry.subscribe(self._changed)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/events", self.stream)]

    async def end(self, _app: web.Application) -> None:
        """Let all streams end: the server stops."""
        self._ending = True
        self._leave()
        for client in self.clients:
            client.wake.set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if len(self.clients) >= CLIENTS_MOST:
            self._forget_the_gone()
        if len(self.clients) >= CLIENTS_MOST:
            raise ApiError(429, f"{CLIENTS_MOST} event streams are open, which is all there may be")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        client = Client(lambda: request.transport is None or request.transport.is_closing())
        self.clients.add(client)
        try:
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            while not self._ending:
                await self._send(response, client)
        except (TimeoutError, ConnectionError):
            pass  # the client has gone, or takes nothing any more
        finally:
            self.clients.discard(client)
        return response

    def _forget_the_gone(self) -> None:
        """A stream whose reader left learns of it at its next write, which may be a heartbeat away."""
        self.clients.difference_update([client for client in self.clients if client.gone()])

    async def _send(self, response: web.StreamResponse, client: Client) -> None:
        data = client.take()
        if data is None:
            async for piece in self._snapshot():
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(piece)
        elif data:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(data)
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await client.wake.wait()
        except TimeoutError:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(b": nothing new\n\n")

    async def _snapshot(self) -> AsyncIterator[bytes]:
        pieces = present.services(self._registry.instances(), self._domain)
        first = await anext(pieces)
        sources = json.dumps(present.sources(self._registry))
        domain = json.dumps(self._domain)
        head = f'{{"domain": {domain}, "sources": {sources}, "services": {first}'
        yield f"event: snapshot\ndata: {head}".encode()
        async for piece in pieces:
            yield piece.encode()
        yield b"}\n\n"

    @property
    def _domain(self) -> str:
        return self._local.settings.domains[0]

    def _changed(self, change: Change) -> None:
        if not self.clients:
            return
        if len(change.added) + len(change.removed) + len(change.updated) > CHANGE_MOST:
            for client in self.clients:
                client.lose()
            return
        data = b""
        if change.added or change.removed or change.updated:
            data = event("change", self._told(change))
        if change.everything:
            data += event("sources", {"sources": present.sources(self._registry)})
        if data:
            for client in self.clients:
                client.offer(data)

    def _told(self, change: Change) -> dict[str, Any]:
        domain = self._domain
        return {
            "added": [present.instance(i, domain) for i in change.added],
            "updated": [present.instance(new, domain) for _, new in change.updated],
            "removed": [
                {"id": i.id, "source": i.source, "service": i.service, "scope": i.scope}
                for i in change.removed
            ],
        }


def event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
