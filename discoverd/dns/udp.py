"""UDP: one socket drained on the event loop, answers leaving from the address that was asked.

asyncio's datagram transport costs several times as much a packet: it makes a callback, an
address tuple and a system call through two layers for each.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from discoverd.dns.fastpath import FORMS
from discoverd.dns.handler import Foreign
from discoverd.dns.message import OPT_SIZE, PLAIN_UDP

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from discoverd.dns.handler import Handler

#: Datagrams taken in one go before other work of the loop gets its turn.
BATCH = 64
#: Octets of the largest query that is read; anything longer is no question.
LARGEST_QUERY = 4096
#: Socket buffers in octets: a burst of some thousand queries waits instead of being lost.
BUFFER = 4 * 1024 * 1024

#: ip(7); the socket module has had it since Python 3.14 only.
IP_PKTINFO = 8
_IN_PKTINFO = struct.Struct("@i4s4s")
_IN6_PKTINFO = struct.Struct("@16si")
_ANCILLARY_SPACE = socket.CMSG_SPACE(max(_IN_PKTINFO.size, _IN6_PKTINFO.size))

#: What to answer with to a query without OPT, and its size limit.
WITHOUT_OPT = (b"", PLAIN_UDP)

Ancillary = list[tuple[int, int, bytes]]


def bind(family: int, host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket that says where each packet was sent to (RFC 3542, ip(7)).

    Raises OSError.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def asked_address(ancillary: Ancillary) -> str | None:
    """The address a packet was sent to, from its control data."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, _IN_PKTINFO.unpack_from(data)[2])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, _IN6_PKTINFO.unpack_from(data)[0])
    return None


class UdpEndpoint:
    """One UDP socket being served."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        forward: Callable[[Foreign, Callable[[bytes], None]], None],
    ) -> None:
        self.sock, self._handler, self._forward = sock, handler, forward
        self.fast = self.slow = self.dropped = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self.sock.fileno(), self._drain)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what has arrived and take no more; replies that are under way may still leave."""
        loop.remove_reader(self.sock.fileno())
        self._drain()

    def close(self) -> None:
        self.sock.close()

    def _drain(self) -> None:
        receive, send = self.sock.recvmsg, self.sock.sendmsg
        fastpath = self._handler.fastpath
        askers, opts = fastpath.askers, fastpath.opts
        for _ in range(BATCH):
            try:
                packet, ancillary, _flags, peer = receive(LARGEST_QUERY, _ANCILLARY_SPACE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier reply; the next read goes on
            reply = None
            store = askers.get(peer[0])
            form = FORMS.get(packet[2:12])
            if store is not None and form is not None:
                opt: tuple[bytes, int] | None
                if form < 2:
                    question, opt = packet[12:], WITHOUT_OPT
                else:
                    question, opt = packet[12:-OPT_SIZE], opts.get(packet[-OPT_SIZE:])
                ring = store.rings.get(question.lower())
                # a hit proves the question well-formed: it equals one that was parsed
                if ring is not None and opt is not None:
                    headers, following, size = ring
                    if size + len(opt[0]) <= opt[1]:
                        reply = b"".join((packet[:2], headers[form], question, following(), opt[0]))
                        self.fast += 1
            if reply is None:
                reply = self._slow(packet, ancillary, peer)
            if reply is not None:
                try:
                    send((reply,), ancillary, 0, peer)
                except OSError:
                    self.dropped += 1

    def _slow(self, packet: bytes, ancillary: Ancillary, peer: tuple[str, int]) -> bytes | None:
        own = asked_address(ancillary)
        handler = self._handler
        store = handler.fastpath.askers.get(peer[0]) or handler.place(peer[0], own)
        self.slow += 1
        reply = handler.handle(packet, store, own)
        if isinstance(reply, Foreign):
            self._forward(reply, lambda answer: self._send(answer, ancillary, peer))
            return None
        return reply

    def _send(self, reply: bytes, ancillary: Ancillary, peer: tuple[str, int]) -> None:
        try:
            self.sock.sendmsg((reply,), ancillary, 0, peer)
        except (OSError, ValueError):
            self.dropped += 1
