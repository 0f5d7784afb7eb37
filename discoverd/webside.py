"""The sockets of the HTTP side, and what serves on them: may be stopped, and started again on the same."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from discoverd.accepting import settled, stop_accepting
from discoverd.dns import server as dns
from discoverd.dns.tcp import BACKLOG
from discoverd.http.gate import Gate
from discoverd.wiring import StartError, hosts_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from discoverd.config import Endpoint
    from discoverd.dns.adopt import Held
    from discoverd.http.api import Api

log = logging.getLogger("discoverd")

#: Seconds that requests have to come on connections that there are, when nobody is to be let down.
COMING_SECONDS: Final = 1.0


class WebSide:
    """``make`` makes what serves, anew for every start."""

    def __init__(self, sockets: Sequence[socket.socket], make: Callable[[], Api]) -> None:
        self.sockets, self._make = tuple(sockets), make
        self._runner: web.AppRunner | None = None
        self._gate: Gate | None = None
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        application = self._make().application()
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        assert self._runner.server is not None
        loop, self._gate = asyncio.get_running_loop(), Gate(self._runner.server)
        for sock in self.sockets:
            # a copy, because the end of a server closes it
            self._servers.append(await loop.create_server(self._gate, sock=sock.dup(), backlog=BACKLOG))

    def say(self) -> None:
        for sock in self.sockets:
            log.info("listening on http://%s", dns.name_of(*sock.getsockname()[:2]))

    async def stop(self, coming: float = 0) -> None:
        """Answer what has come, or comes in so many seconds on connections that there are.

        Who wants to connect from now on waits in the sockets.
        """
        if self._runner is None:
            return
        for server in self._servers:
            stop_accepting(server)
        self._servers.clear()
        await settled()
        assert self._gate is not None
        if self._gate.server.connections or self._gate.waiting:
            await asyncio.sleep(coming)
        self._gate.close()
        await self._runner.cleanup()
        self._runner = self._gate = None

    async def close(self) -> None:
        await self.stop()
        for sock in self.sockets:
            sock.close()


def bind(endpoint: Endpoint, held: Held) -> list[socket.socket]:
    """The sockets of an address, held already or bound anew. Raises StartError with nothing left open."""
    bound: list[socket.socket] = []
    port = endpoint.port
    for host in hosts_of(endpoint):
        try:
            sock = held.claim_stream(host, port) or dns.bind_tcp(host, port)
        except OSError as error:
            for each in bound:
                each.close()
            raise StartError(dns.explain(str(endpoint), endpoint.port, "HTTP", error)) from None
        bound.append(sock)
        port = int(sock.getsockname()[1])
    return bound
