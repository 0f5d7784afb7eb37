"""Sockets that somebody else has bound, such as systemd, made into listeners."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from discoverd.dns import udp
from discoverd.dns.server import BindError, Listener, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def adopt(sockets: Sequence[socket.socket], count: int = 1) -> list[list[Listener]]:
    """The UDP and the TCP socket of each address as a pair, and each pair so many times, side by side.

    These are copies of one descriptor and not sockets that share a port, as only who bound the first
    may bind more (SO_REUSEPORT, socket(7)). Raises BindError, and has closed nothing then.
    """
    kinds = {socket.SOCK_DGRAM: "UDP", socket.SOCK_STREAM: "TCP"}
    found: dict[tuple[str, int], dict[str, socket.socket]] = {}
    for sock in sockets:
        where = address_of(sock)
        kind = kinds.get(sock.type)
        if kind is None or (kind == "TCP" and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            raise BindError(
                f"the socket of {name_of(*where)} that was passed listens neither for UDP nor TCP"
            )
        pair = found.setdefault(where, {})
        if kind in pair:
            raise BindError(f"two {kind} sockets of {name_of(*where)} were passed, expected one")
        pair[kind] = sock
    for where, pair in found.items():
        for kind, option in (("UDP", "ListenDatagram"), ("TCP", "ListenStream")):
            if kind not in pair:
                raise BindError(
                    f"of {name_of(*where)} no {kind} socket was passed, and DNS needs both:"
                    f" add {option}={name_of(*where)} to the socket unit"
                )
    listeners = []
    for (host, port), pair in found.items():
        udp.prepare(pair["UDP"], host)
        copies = [Listener(host, port, pair["UDP"].dup(), pair["TCP"].dup()) for _ in range(1, count)]
        listeners.append([Listener(host, port, pair["UDP"], pair["TCP"]), *copies])
    return listeners


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Where a socket listens. Raises BindError for one whose askers could not be told apart."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise BindError(f"a socket of {sock.getsockname()!r} was passed, expected one of an IP address")
    where: tuple[str, int] = sock.getsockname()[:2]
    # On a socket of both, IPv4 askers are ::ffff:192.0.2.1, and no view knows them by that.
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise BindError(
            f"the socket of {name_of(*where)} that was passed is for IPv4 as well, expected one for each:"
            " set BindIPv6Only=ipv6-only in the socket unit and add the IPv4 address"
        )
    return where


class Held:
    """Sockets of a server that is being taken over from, until each is claimed or closed."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._by_address: dict[tuple[str, int], tuple[list[socket.socket], list[socket.socket]]] = {}
        for sock in sockets:
            datagrams, streams = self._by_address.setdefault(address_of(sock), ([], []))
            (datagrams if sock.type == socket.SOCK_DGRAM else streams).append(sock)

    def claim(self, host: str, port: int, count: int) -> list[Listener]:
        """The pairs of one address, at least so many; none where there are none. Port 0 is any port.

        All that share the port are there, even if they are more: what waits in one of them waits in no
        other. Where they are fewer, some are copies of one descriptor, as :func:`adopt` makes them.
        """
        for where, (datagrams, streams) in self._by_address.items():
            if where[0] == host and port in {0, where[1]} and datagrams and len(datagrams) == len(streams):
                del self._by_address[where]
                udp.prepare(datagrams[0], host)
                pairs = list(zip(datagrams, streams, strict=True))
                pairs += [
                    (d.dup(), s.dup()) for d, s in (pairs[i % len(pairs)] for i in range(len(pairs), count))
                ]
                return [Listener(*where, *pair) for pair in pairs]
        return []

    def claim_stream(self, host: str, port: int) -> socket.socket | None:
        """The listening TCP socket of one address, where there is one."""
        for where, (_, streams) in self._by_address.items():
            if where[0] == host and port in {0, where[1]} and streams:
                return streams.pop()
        return None

    def close(self) -> None:
        """Close what nobody has claimed."""
        for kinds in self._by_address.values():
            for sock in kinds[0] + kinds[1]:
                sock.close()
        self._by_address.clear()


NONE_HELD: Final = Held(())
