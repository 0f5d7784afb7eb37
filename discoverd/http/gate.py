"""How many HTTP connections there may be: who holds many keeps nobody else from being served."""

from __future__ import annotations

import asyncio
import logging
import resource
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from discoverd.model import unmapped

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("discoverd.http")

#: Connections in all. While half of them are free, an address may have any number; beyond that only so many.
CONNECTIONS_MOST: Final = 512
CONNECTIONS_PER_CLIENT: Final = 32


#: Seconds for the head of a connection's first request, and octets from which on that is the server's matter.
FIRST_SECONDS: Final = 10.0
FIRST_MOST: Final = 8192
#: What ends a request's head, also as lenient clients write it.
ENDS: Final = (b"\r\n\r\n", b"\n\n")


class Gate:
    """Makes the protocols of new connections to ``server``."""

    def __init__(self, server: web.Server) -> None:
        self.server = server
        #: Connections that have not asked for anything yet.
        self.waiting: set[Entry] = set()

    def __call__(self) -> Entry:
        return Entry(self)

    def has_room(self, transport: asyncio.Transport) -> bool:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = CONNECTIONS_MOST if files < 0 else min(CONNECTIONS_MOST, files // 4)
        held: list[object] = [*self.server.connections, *self.waiting]
        if len(held) < most // 2:
            return True
        if len(held) >= most:
            return False
        client = _client(transport)
        transports = (getattr(each, "transport", None) for each in held)
        return sum(_client(each) == client for each in transports) < CONNECTIONS_PER_CLIENT

    def close(self) -> None:
        """Close the connections that have not asked for anything."""
        for each in list(self.waiting):
            each.close()


class Entry(asyncio.Protocol):
    """A connection up to its first request, with which it is handed to the server: it is closed at once where
    there is no room, or when it takes too long to ask.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._gate.has_room(transport):
            log.debug("too many HTTP connections: one of %s is closed", _client(transport))
            transport.abort()
            return
        self.transport = transport
        self._gate.waiting.add(self)
        self._timer = asyncio.get_running_loop().call_later(FIRST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.transport is None or (
            len(self._head) < FIRST_MOST and not any(end in self._head for end in ENDS)
        ):
            return
        self._leave()
        protocol = self._gate.server()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(self._head)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._gate.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def _client(transport: asyncio.BaseTransport | None) -> object:
    """Whose connection it is: an address, or the network that one asker may have (RFC 6177)."""
    name = transport.get_extra_info("peername") if transport is not None else None
    if not name:
        return None
    address = unmapped(ip_address(name[0].partition("%")[0]))
    return address if address.version == 4 else ip_network((address.packed, 64), strict=False)
