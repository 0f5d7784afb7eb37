"""Questions under way that nothing out of the ordinary has happened to: a few octets in a table.

Most questions are asked once, of one server, and answered in time by a reply that is plainly good. To
those no object of their own is given: what a batch has in common is kept once, the rest is a tuple. As
soon as anything else happens (time passes, an error comes, the same is asked again), the question becomes
a :class:`.pending.Pending`, which knows what to do. By CPU time of a whole miss: 0.4 of what a Pending
for each took.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from discoverd.resolver.upstreams.pending import Pending
from discoverd.resolver.upstreams.query import Asked
from discoverd.resolver.upstreams.udp import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from discoverd.resolver.upstreams.pending import Asker, Try
    from discoverd.resolver.upstreams.server import Server
    from discoverd.resolver.upstreams.udp import Port

#: What a question goes by, its name, type and class as asked, flags (RD, AD, CD), DO, who waits, and what it
#: has in common with others.
Flight = tuple[bytes, bytes, int, int, Any, "Group"]


class Crowd(Protocol):
    """Who asks many questions at once."""

    def answered(self, replies: list[tuple[Flight, bytes]], /) -> None:
        """Replies that are plainly good: to the question, not cut off, NOERROR or NXDOMAIN."""

    def waiter(self, flight: Flight, /) -> Any:
        """Who waits, as a Pending has them."""


class Group:
    """What questions have in common that are asked together; ``began`` is their crowd's own."""

    __slots__ = ("asker", "began", "crowd", "due", "flights", "order", "plain", "ports", "sent", "server")

    flights: Flights
    order: Sequence[Server]
    server: Server
    plain: bool
    sent: float
    due: float

    def __init__(self, asker: Asker, crowd: Crowd, began: int) -> None:
        self.asker, self.crowd, self.began = asker, crowd, began
        self.ports: list[Port] = []

    def leave(self, flights: Flights, order: Sequence[Server]) -> None:
        """They are about to be asked of the first of these servers."""
        self.flights, self.order, self.server = flights, order, order[0]
        self.plain = not self.server.edns
        self.sent = monotonic()
        self.due = self.sent + self.server.patience()

    def find(self, flight: Flight) -> tuple[Port, bytes]:
        """Where one of them was sent from, and under which id: not kept, as hardly any is looked for."""
        for port in self.ports:
            for ident, waiting in port.waiting.items():
                if waiting is flight:
                    return port, ident
        raise LookupError(flight)


class Flights:
    """Those of one forwarder. ``adopt`` takes in what becomes a Pending, with who waits for it; ``done`` is
    its end.
    """

    def __init__(
        self, adopt: Callable[[Pending, Any], None], done: Callable[[Pending, Any, str], None]
    ) -> None:
        self._adopt, self._done = adopt, done
        self.under_way: dict[bytes, Flight] = {}
        self._groups: list[Group] = []

    def launch(self, group: Group, order: Sequence[Server], flights: Mapping[bytes, Flight]) -> int:
        """Ask the first server, by UDP, what is under way nowhere yet: flights of one group by their keys.
        Returns how many were asked: fewer where there are no more sockets to be had.
        """
        group.leave(self, order)
        self._groups.append(group)
        ports, rest = group.server.ports, list(flights.items())
        done = 0
        while done < len(rest):
            try:
                port, room = ports.vacant()
            except OSError:
                break
            some = flights if not done and room >= len(rest) else dict(rest[done : done + room])
            self.under_way.update(some)
            self._send(group, port, some.values())
            done += len(some)
        return done

    def _send(self, group: Group, port: Port, flights: Collection[Flight]) -> None:
        waiting, around, count = port.waiting, group.server.around, len(flights)
        group.ports.append(port)
        group.server.sent += count
        drawn, packets = os.urandom(2 * count), []
        for at, flight in zip(range(0, 2 * count, 2), flights, strict=True):
            ident = drawn[at : at + 2]
            while ident in waiting:
                ident = os.urandom(2)
            _, question, flags, do, _, _ = waiting[ident] = flight
            before, after = around[flags | do]
            packets.append(ident + before + question + after)
        for ident, why in port.send_all(packets):
            failed = waiting[ident]
            assert isinstance(failed, tuple)
            attempt = self.landed(failed, port, ident)
            attempt.forget()
            attempt.failed(why)

    def landed(self, flight: Flight, port: Port, ident: bytes) -> Try:
        """Something has happened: from now on it is a Pending, which has been asked once."""
        attempt = self._become_pending(flight)
        attempt.sent_by(port, ident)
        return attempt

    def unread(self, flight: Flight, reply: bytes) -> None:
        """The reply that has come to it cannot be read."""
        self._become_pending(flight).replied(reply)

    def _become_pending(self, flight: Flight) -> Try:
        key, question, flags, do, _, group = flight
        self.under_way.pop(key, None)
        pending = Pending(key, Asked(flags, question, bool(do)), group.asker, self._done)
        attempt = pending.adopt(group)
        self._adopt(pending, group.crowd.waiter(flight))
        return attempt

    def land(self, key: bytes) -> None:
        """The same for who is asked again."""
        flight = self.under_way.get(key)
        if flight is not None:
            self.landed(flight, *flight[GROUP].find(flight))

    def land_all(self) -> None:
        self._land(self._groups)
        self._groups = []

    def sweep(self, now: float) -> None:
        """Whose reply is overdue is no flight any more."""
        late = [group for group in self._groups if group.due <= now]
        if late:
            self._groups = [group for group in self._groups if group.due > now]
            self._land(late)

    def _land(self, groups: Iterable[Group]) -> None:
        for group in groups:
            for port in group.ports:
                for ident, flight in list(port.waiting.items()):
                    if isinstance(flight, tuple) and flight[GROUP] is group:
                        self.landed(flight, port, ident)
