"""How many HTTP connections there may be: who holds many keeps nobody else from being served."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("discoverd.http")

#: Connections in all. While half of them are free, an address may have any number; beyond that only so many.
CONNECTIONS_MOST: Final = 512
CONNECTIONS_PER_CLIENT: Final = 32


class Gate(asyncio.Protocol):
    """What a new connection meets first: it is handed to ``server``, or closed at once."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._has_room(transport):
            protocol = self._server()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        else:
            log.debug("too many HTTP connections: one of %s is closed", _client(transport))
            transport.abort()

    def _has_room(self, transport: asyncio.Transport) -> bool:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = CONNECTIONS_MOST if files < 0 else min(CONNECTIONS_MOST, files // 4)
        held = self._server.connections
        if len(held) < most // 2:
            return True
        if len(held) >= most:
            return False
        client = _client(transport)
        return sum(_client(each.transport) == client for each in held) < CONNECTIONS_PER_CLIENT


def _client(transport: asyncio.BaseTransport | None) -> object:
    """Whose connection it is, by address."""
    name = transport.get_extra_info("peername") if transport is not None else None
    return name[0] if name else None
