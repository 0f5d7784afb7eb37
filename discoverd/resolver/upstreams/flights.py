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
from discoverd.resolver.upstreams.udp import GROUP, IDENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.resolver.upstreams.pending import Asker, Try
    from discoverd.resolver.upstreams.server import Server
    from discoverd.resolver.upstreams.udp import Port

#: What a question goes by, its name, type and class as asked, flags (RD, AD, CD), DO, and who waits.
Question = tuple[bytes, bytes, int, int, Any]
#: The same with the id that it was sent under, and what it has in common with others.
Flight = tuple[bytes, bytes, int, int, Any, bytes, "Group"]


class Crowd(Protocol):
    """Who asks many questions at once."""

    def answered(self, replies: list[tuple[Flight, bytes]], /) -> None:
        """Replies that are plainly good: to the question, not cut off, NOERROR or NXDOMAIN."""

    def waiter(self, flight: Flight, /) -> Any:
        """Who waits, as a Pending has them."""


class Group:
    """What questions have in common that were sent together."""

    __slots__ = ("asker", "began", "crowd", "due", "flights", "order", "plain", "port", "sent", "server")

    def __init__(  # noqa: PLR0917 - what a batch has in common
        self, flights: Flights, order: Sequence[Server], port: Port, asker: Asker, crowd: Crowd, began: int
    ) -> None:
        self.flights, self.order, self.server, self.port = flights, order, order[0], port
        self.asker, self.crowd, self.began = asker, crowd, began
        self.plain = not self.server.edns
        self.sent = monotonic()
        self.due = self.sent + self.server.patience()


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

    def launch(
        self, order: Sequence[Server], questions: Sequence[Question], asker: Asker, crowd: Crowd, began: int
    ) -> int:
        """Ask the first server, by UDP; ``began`` is given back with the group. Returns how many were
        asked: fewer where there are no more sockets to be had.
        """
        done = 0
        while done < len(questions):
            try:
                port, room = order[0].ports.vacant()
            except OSError:
                break
            group = Group(self, order, port, asker, crowd, began)
            self._send(group, questions[done : done + room])
            done += room
        return min(done, len(questions))

    def _send(self, group: Group, questions: Sequence[Question]) -> None:
        under_way, server, waiting = self.under_way, group.server, group.port.waiting
        self._groups.append(group)
        server.sent += len(questions)
        drawn, packets = os.urandom(2 * len(questions)), []
        for at, question in enumerate(questions):
            ident = drawn[2 * at : 2 * at + 2]
            while ident in waiting:
                ident = os.urandom(2)
            key, asked, flags, do, _ = question
            waiting[ident] = under_way[key] = (*question, ident, group)
            packets.append(ident + server.plain_query(flags, asked, do))
        for ident, why in group.port.send_all(packets):
            flight = waiting[ident]
            assert isinstance(flight, tuple)
            attempt = self.landed(flight)
            attempt.forget()
            attempt.failed(why)

    def landed(self, flight: Flight) -> Try:
        """Something has happened: from now on it is a Pending, which has been asked once."""
        attempt = self._become_pending(flight)
        attempt.sent_by(flight[GROUP].port, flight[IDENT])
        return attempt

    def unread(self, flight: Flight, reply: bytes) -> None:
        """The reply that has come to it cannot be read."""
        self._become_pending(flight).replied(reply)

    def _become_pending(self, flight: Flight) -> Try:
        key, question, flags, do, _, _, group = flight
        self.under_way.pop(key, None)
        pending = Pending(key, Asked(flags, question, bool(do)), group.asker, self._done)
        attempt = pending.adopt(group)
        self._adopt(pending, group.crowd.waiter(flight))
        return attempt

    def land(self, key: bytes) -> None:
        """The same for who is asked again."""
        flight = self.under_way.get(key)
        if flight is not None:
            self.landed(flight)

    def land_all(self) -> None:
        for flight in list(self.under_way.values()):
            self.landed(flight)

    def sweep(self, now: float) -> None:
        """Whose reply is overdue is no flight any more."""
        late = [group for group in self._groups if group.due <= now]
        if not late:
            return
        self._groups = [group for group in self._groups if group.due > now]
        for group in late:
            waiting = list(group.port.waiting.values())
            for flight in waiting:
                if isinstance(flight, tuple) and flight[GROUP] is group:
                    self.landed(flight)
