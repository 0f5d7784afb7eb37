"""UDP: one socket drained on the event loop, answers leaving from the address that was asked.

asyncio's datagram transport costs several times as much a packet: a callback, an address tuple
and a system call through two layers for each. Where the machine has recvmmsg and sendmmsg,
:class:`.BatchedEndpoint` takes and answers many packets at once; elsewhere :class:`UdpEndpoint`.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from discoverd.dns.handler import Foreign
from discoverd.dns.observer import UDP, clock
from discoverd.dns.overload import Load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from discoverd.dns.handler import Handler

    Forward = Callable[[Foreign, Callable[[bytes], None]], None]

#: Octets of the largest query that is read; anything longer is no question.
LARGEST_QUERY: Final = 4096
#: Socket buffers in octets: a burst of some thousand queries waits instead of being lost.
BUFFER: Final = 4 * 1024 * 1024

#: ip(7); the socket module has had it since Python 3.14 only.
IP_PKTINFO: Final = 8
IN_PKTINFO: Final = struct.Struct("@i4s4s")
IN6_PKTINFO: Final = struct.Struct("@16si")
CMSG_HEADER: Final = socket.CMSG_LEN(0)
_ANCILLARY_SPACE: Final = socket.CMSG_SPACE(max(IN_PKTINFO.size, IN6_PKTINFO.size))

Peer = tuple[str, int] | tuple[str, int, int, int]
Ancillary = list[tuple[int, int, bytes]]


def bind(family: int, host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound, non-blocking UDP socket; on a wildcard address it says where each packet was sent to
    (RFC 3542, ip(7)). ``shared``: beside others on the same port (SO_REUSEPORT). Raises OSError.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(sock, host)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket, host: str) -> None:
    """Have a socket say where each packet was sent to, where that can be several addresses."""
    if is_wildcard(host):
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
            if sock.family == socket.AF_INET6
            else (socket.IPPROTO_IP, IP_PKTINFO)
        )
        sock.setsockopt(level, option, 1)


def is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def asked_address(ancillary: Ancillary) -> str | None:
    """The address a packet was sent to, from its control data."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, IN_PKTINFO.unpack_from(data)[2])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, IN6_PKTINFO.unpack_from(data)[0])
    return None


class UdpEndpoint:
    """One UDP socket being served, a datagram at a time. ``fast``, ``slow`` and ``dropped`` count."""

    def __init__(self, sock: socket.socket, handler: Handler, forward: Forward) -> None:
        self.sock, self._handler, self._forward = sock, handler, forward
        self._bound = None if is_wildcard(sock.getsockname()[0]) else str(sock.getsockname()[0])
        self.fast = self.slow = self.dropped = 0
        self.load = Load(sock)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sock.setblocking(False)
        loop.add_reader(self.sock.fileno(), self.drain)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what has arrived and take no more; replies that are under way may still leave."""
        if loop.remove_reader(self.sock.fileno()):
            self.drain()

    def close(self) -> None:
        self.sock.close()

    @property
    def lost_replies(self) -> int:
        """Those that the kernel did not take."""
        return self.dropped

    def drain(self) -> None:
        """Answer what is there, for as long as a turn lasts."""
        end = self.load.begin()
        count = 0
        while (now := clock()) < end:
            count += 1
            try:
                packet, ancillary, _flags, peer = self.sock.recvmsg(LARGEST_QUERY, _ANCILLARY_SPACE)
            except (BlockingIOError, InterruptedError):
                self.load.emptied()
                return
            except OSError:
                continue  # an ICMP error of an earlier reply; the next read goes on
            reply = self._answer(packet, peer, ancillary)
            if reply is not None:
                self._send(packet[:2] + reply, ancillary, peer)
        self.load.left_over(now, count)

    def _answer(self, packet: bytes, peer: Peer, ancillary: Ancillary) -> bytes | None:
        """The reply behind its id: by a ring, else by the handler."""
        handler = self._handler
        store = handler.fastpath.askers.get(peer[0])
        if store is not None:
            reply = handler.fastpath.reply(store, packet, peer[0])
            if reply is not None:
                self.fast += 1
                return reply
        if self.load.shedding and not self.load.admits(peer[0]):
            self.slow += 1
            return None
        return self._answer_slowly(packet, peer, ancillary)

    def _answer_slowly(self, packet: bytes, peer: Peer, ancillary: Ancillary) -> bytes | None:
        """The handler's reply behind its id; None where there is none (yet)."""
        self.slow += 1
        handler = self._handler
        own = self._bound or asked_address(ancillary)
        store = handler.fastpath.askers.get(peer[0]) or handler.place(peer[0], own)
        began = clock()
        full = handler.handle(packet, store, own, peer[0])
        if isinstance(full, Foreign):
            seen = handler.observer.later(UDP, store, peer[:2], began)
            self._forward(full, lambda answer: self._send(seen(answer), ancillary, peer))
            return None
        handler.observer.saw(UDP, full, store, peer[:2], began)
        return full[2:] if full is not None else None

    def _send(self, reply: bytes, ancillary: Ancillary, peer: Peer) -> None:
        try:
            self.sock.sendmsg((reply,), ancillary, socket.MSG_DONTWAIT, peer)
        except (OSError, ValueError):
            self.dropped += 1
