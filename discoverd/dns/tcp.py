"""DNS over TCP (RFC 7766): framed, pipelined, bounded in number and in idleness."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from discoverd.dns.handler import Foreign

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from discoverd.dns.handler import Handler

#: Seconds without a query after which a connection is closed (RFC 7766 section 6.2.3).
IDLE_SECONDS = 10.0
#: Connections in all and from one address; more than that are closed at once.
CONNECTIONS_MOST = 4096
CONNECTIONS_PER_CLIENT = 256
BACKLOG = 1024


class TcpEndpoint:
    """One listening socket and its connections."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        forward: Callable[[Foreign, Callable[[bytes], None]], None],
    ) -> None:
        self.sock, self.handler, self.forward = sock, handler, forward
        self.connections: set[Connection] = set()
        self.per_client: Counter[str] = Counter()
        self.refused = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=self.sock, backlog=BACKLOG)

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Let replies that are being written leave, then close."""
        self.stop_accepting()
        for connection in tuple(self.connections):
            connection.close()


class Connection(asyncio.Protocol):
    """One client. Queries are answered as they come; forwarded ones may overtake each other."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._waiting = 0
        self._ended = False
        self._admitted = False
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._peer = ""
        self._own = ""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        endpoint = self._endpoint
        if not peer or not own:
            transport.abort()  # gone already
            return
        self._peer, self._own = peer[0], own[0]
        if (
            len(endpoint.connections) >= CONNECTIONS_MOST
            or endpoint.per_client[self._peer] >= CONNECTIONS_PER_CLIENT
        ):
            endpoint.refused += 1
            transport.abort()
            return
        self._admitted = True
        endpoint.connections.add(self)
        endpoint.per_client[self._peer] += 1
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._timer = loop.call_later(IDLE_SECONDS, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()
        if self._admitted:
            endpoint = self._endpoint
            endpoint.connections.discard(self)
            endpoint.per_client[self._peer] -= 1
            if not endpoint.per_client[self._peer]:
                del endpoint.per_client[self._peer]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._last = asyncio.get_running_loop().time()
        self._answer_frames()

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers."""
        self._ended = True
        self._close_when_done()
        return True

    def pause_writing(self) -> None:
        # a client that does not read its answers is not read either
        with contextlib.suppress(RuntimeError):
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def _answer_frames(self) -> None:
        buffer, handler = self._buffer, self._endpoint.handler
        replies: list[bytes] = []
        offset = 0
        while len(buffer) - offset >= 2:
            length = int.from_bytes(buffer[offset : offset + 2], "big")
            if len(buffer) - offset - 2 < length:
                break
            packet = bytes(buffer[offset + 2 : offset + 2 + length])
            offset += 2 + length
            store = handler.fastpath.askers.get(self._peer) or handler.place(self._peer, self._own)
            reply = handler.handle(packet, store, self._own, tcp=True)
            if isinstance(reply, Foreign):
                self._waiting += 1
                self._endpoint.forward(reply, self._send_forwarded)
            elif reply is None:
                # not even an error can be said to what is no query: this is no DNS client
                self._transport.abort()
                return
            else:
                replies += (len(reply).to_bytes(2, "big"), reply)
        del buffer[:offset]
        if replies:
            self._transport.write(b"".join(replies))

    def _send_forwarded(self, reply: bytes) -> None:
        self._waiting -= 1
        if not self._transport.is_closing():
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._ended and not self._waiting:
            self._transport.close()

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last + IDLE_SECONDS - loop.time()
        if left <= 0 and not self._waiting:
            self._transport.abort()
        else:
            self._timer = loop.call_later(max(left, 1.0), self._check_idle)
