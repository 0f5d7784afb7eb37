"""All listening sockets: UDP and TCP on every address, bound together before any is served."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from discoverd.dns import observed, udp
from discoverd.dns.limits import Limits
from discoverd.dns.message import SERVFAIL
from discoverd.dns.observer import Observed
from discoverd.dns.overload import memory
from discoverd.dns.tcp import BACKLOG, TcpEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.dns.handler import Foreign, Handler

    Forward = Callable[[Foreign, Callable[[bytes], None]], None]

#: Tries to find one port that is free for both UDP and TCP when any port will do.
ANY_PORT_TRIES = 20
#: Addresses that systemd-resolved's stub listener stands in the way of.
HELD_BY_RESOLVED = ("127.0.0.53:53", "0.0.0.0:53", "[::]:53")


class BindError(Exception):
    """An address cannot be listened on; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A pair of bound sockets on one address."""

    host: str
    port: int
    udp: socket.socket
    tcp: socket.socket

    @property
    def name(self) -> str:
        return name_of(self.host, self.port)

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted: UDP queries by path, replies that the socket did not take, TCP connections that
    are open, and those refused beyond the limits.

    ``observed`` is of a whole process, ``lost`` of a socket, whoever serves it: who sums up adds each once.
    """

    fast: int = 0
    slow: int = 0
    dropped: int = 0
    connections: int = 0
    refused: int = 0
    #: Queries that the kernel had no room for in a socket's buffer.
    lost: int = 0
    #: Queries for the resolver that were left out for more of the others.
    shed: int = 0
    observed: Observed = field(default_factory=Observed)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))


def bind_all(host: str, port: int, count: int) -> list[Listener]:
    """As :func:`bind`, so many pairs on one port (SO_REUSEPORT): the kernel deals askers out to them.

    The first is bound without sharing: a port that somebody else has, sharing or not, is refused.
    """
    listeners = [bind(host, port)]
    first, family = listeners[0], _family(host)
    try:
        if count > 1:
            for sock in (first.udp, first.tcp):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(1, count):
            datagrams = udp.bind(family, host, first.port, shared=True)
            try:
                stream = bind_tcp(host, first.port, shared=True)
            except OSError:
                datagrams.close()
                raise
            listeners.append(Listener(host, first.port, datagrams, stream))
    except OSError as error:
        for each in listeners:
            each.close()
        raise BindError(explain(first.name, first.port, "shared", error)) from None
    return listeners


def bind(host: str, port: int) -> Listener:
    """Bind UDP and TCP to one address; port 0 takes any that is free for both. Raises BindError."""
    family = _family(host)
    for attempt in range(ANY_PORT_TRIES):
        try:
            datagrams = udp.bind(family, host, port)
        except OSError as error:
            raise BindError(explain(name_of(host, port), port, "UDP", error)) from None
        bound = datagrams.getsockname()[1]
        try:
            stream = bind_tcp(host, bound)
        except OSError as error:
            datagrams.close()
            if port == 0 and error.errno == errno.EADDRINUSE and attempt + 1 < ANY_PORT_TRIES:
                continue
            raise BindError(explain(name_of(host, bound), bound, "TCP", error)) from None
        return Listener(host, bound, datagrams, stream)
    raise AssertionError  # the last attempt returns or raises


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bind_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    family = _family(host)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def name_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def explain(where: str, port: int, protocol: str, error: OSError) -> str:
    """One line on why an address cannot be listened on, and what to do about it."""
    text = f"cannot listen on {where} ({protocol}): {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        if where in HELD_BY_RESOLVED:
            text += (
                "; systemd-resolved usually holds port 53: set DNSStubListener=no in"
                " /etc/systemd/resolved.conf, or listen on one address instead of all"
            )
        else:
            text += f"; find the holder with: ss -lnp 'sport = :{port}'"
    elif error.errno == errno.EACCES:
        text += (
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
            " (setcap, AmbientCapabilities=, cap_add), or choose a higher port"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        text += "; this machine has no such address (see: ip address)"
    return text


class DnsServer:
    """Serves a handler on listeners. ``forward`` gets questions for other people's names."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        handler: Handler,
        forward: Forward | None = None,
    ) -> None:
        forward = forward or _nowhere
        self.handler, self.listeners = handler, tuple(listeners)
        self.udp = [observed.endpoint(each.udp, handler, forward) for each in listeners]
        limits = Limits()
        self.tcp = [TcpEndpoint(each.tcp, handler, forward, limits) for each in listeners]

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for stream in self.tcp:
            await stream.start()
        for datagrams in self.udp:
            datagrams.start(loop)

    def pause(self) -> None:
        """Leave the sockets to another process that has them, until :meth:`start` is called again."""
        loop = asyncio.get_running_loop()
        for datagrams in self.udp:
            datagrams.stop(loop)
        for stream in self.tcp:
            stream.pause()

    def lost(self) -> int:
        """Queries that found its sockets' buffers full."""
        return sum(memory(datagrams.sock)[1] for datagrams in self.udp)

    def counts(self) -> Counts:
        return Counts(
            sum(u.fast for u in self.udp),
            sum(u.slow for u in self.udp),
            sum(u.lost_replies for u in self.udp),
            sum(len(t.connections) for t in self.tcp),
            sum(t.refused for t in self.tcp),
            shed=sum(u.load.shed for u in self.udp),
        )

    def close(self) -> None:
        """Give the sockets back, of a server that was never started."""
        for datagrams in self.udp:
            datagrams.close()
        for stream in self.tcp:
            stream.sock.close()

    async def stop_accepting(self) -> None:
        """Answer the datagrams that have arrived, take no more, and no more connections."""
        loop = asyncio.get_running_loop()
        for datagrams in self.udp:
            datagrams.stop(loop)
        for stream in self.tcp:
            stream.stop_accepting()

    async def hear_who_has_come(self) -> None:
        """Give connections on which nothing was asked yet a moment for it."""
        async with asyncio.TaskGroup() as group:
            for stream in self.tcp:
                group.create_task(stream.hear_who_has_come(), name="hear who has come")

    async def stop(self) -> None:
        """Close everything, after the replies that are being written have left."""
        for datagrams in self.udp:
            datagrams.close()
        async with asyncio.TaskGroup() as group:
            for stream in self.tcp:
                group.create_task(stream.stop(), name="stop TCP")


def _nowhere(foreign: Foreign, send: Callable[[bytes], None]) -> None:
    """Without a forwarder a question that may be forwarded fails: there is nobody to ask."""
    send(foreign.failure(SERVFAIL))
