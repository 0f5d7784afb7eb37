"""UDP to one name server, from ports that cannot be foreseen.

Sockets are connected, so the kernel picks a random port for each and drops what comes from elsewhere.
One is used for a second and some questions only: whoever wants to forge a reply has to guess the id
and the port, again and again (RFC 5452 section 4.5). A socket for every single question was measured
to cost half as much again under load, one for 32 a twelfth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from discoverd import datagrams
from discoverd.resolver.upstreams.inbox import Inbox
from discoverd.resolver.upstreams.query import HEADER_SIZE, ONE_QUESTION, QR, TC, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.resolver.upstreams.flights import Flight
    from discoverd.resolver.upstreams.inbox import Arrived
    from discoverd.resolver.upstreams.query import Attempt

#: Sockets that are taken by chance, questions that each is used for, and for how many seconds.
SOCKETS: Final = 16
USES: Final = 32
LIFE_SECONDS: Final = 1.0
#: Octets read of one reply; a longer one is taken for truncated.
LARGEST: Final = datagrams.OneByOne.largest
#: Flags and the first count of replies that need no second thought: not cut off, NOERROR or NXDOMAIN.
GOOD: Final = frozenset(
    bytes((QR | high, low | rcode)) + ONE_QUESTION
    for high in range(QR)
    if not high & TC
    for low in range(0, 256, 16)
    for rcode in (0, 3)
)
#: Where these stand in a Flight.
KEY: Final = 0
QUESTION: Final = 1
GROUP: Final = 5


class Port:
    """One connected socket. ``stray`` counts what came that nobody had asked for."""

    __slots__ = ("_calls", "_inbox", "_sock", "born", "retired", "stray", "uses", "waiting")

    def __init__(self, host: str, port: int, inbox: Inbox) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect((host, port))
        except OSError:
            self._sock.close()
            raise
        self._inbox, self._calls = inbox, datagrams.best()
        inbox.add(self._sock, self)
        self.born, self.uses, self.stray, self.retired = monotonic(), 0, 0, False
        self.waiting: dict[bytes, Attempt | Flight] = {}

    def send(self, ident: bytes, query: bytes, attempt: Attempt) -> None:
        """Raises OSError."""
        self._sock.send(ident + query)
        self.waiting[ident] = attempt
        self.uses += 1

    def send_all(self, packets: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Send queries with their ids; the ids of those that could not be, and why."""
        self.uses += len(packets)
        return [(packets[number][:2], why) for number, why in self._calls.send(self._sock, packets)]

    def close(self) -> None:
        self._inbox.remove(self._sock)
        self._sock.close()

    def retire(self) -> None:
        """Take no more questions; the socket is closed once nothing is waited for."""
        self.retired = True
        if not self.waiting:
            self.close()

    def forget(self, ident: bytes) -> None:
        if self.waiting.pop(ident, None) is not None and self.retired and not self.waiting:
            self.close()

    def read(self, arrived: Arrived) -> None:
        """Take in what is there. Replies to flights are put with what has ``arrived``, by who asked."""
        calls, sock = self._calls, self._sock
        while sock.fileno() >= 0:  # what comes to one may close another
            try:
                replies = calls.receive(sock, len(self.waiting) or 1)
            except OSError as error:  # an ICMP message: nobody is there
                self._fail(error.strerror or str(error))
                return
            if self._take_in(replies, arrived) < calls.batch:
                return

    def _take_in(self, replies: Sequence[bytes], arrived: Arrived) -> int:
        waiting, group, count = self.waiting, None, 0
        for reply in replies:
            ident = reply[:2]
            attempt = waiting.get(ident)
            if isinstance(attempt, tuple):
                if (
                    reply[2:6] in GOOD
                    and reply.startswith(attempt[QUESTION], HEADER_SIZE)
                    and len(reply) < LARGEST
                ):
                    # all of it as it should be, to the letter: nothing to think about
                    del waiting[ident]
                    if attempt[GROUP] is not group:
                        group = attempt[GROUP]
                        put, under_way = arrived[group.crowd].append, group.flights.under_way
                    del under_way[attempt[KEY]]
                    put((attempt, reply))
                    count += 1
                    continue
                if matches(reply, attempt[QUESTION]):
                    attempt = attempt[GROUP].flights.landed(attempt, self, ident)
                else:
                    attempt = None
            if attempt is None or not matches(reply, attempt.question):
                self.stray += 1
                continue
            if len(reply) == LARGEST:
                reply = reply[:2] + bytes((reply[2] | TC,)) + reply[3:]  # noqa: PLW2901
            self.forget(ident)
            attempt.replied(reply)
        if group is not None:
            group.server.answers(monotonic() - group.sent, count)
            if self.retired and not waiting and self._sock.fileno() >= 0:
                self.close()
        return len(replies)

    def _fail(self, why: str) -> None:
        attempts = [
            each[GROUP].flights.landed(each, self, ident) if isinstance(each, tuple) else each
            for ident, each in list(self.waiting.items())
        ]
        self.waiting.clear()
        if self.retired:
            self.close()
        for attempt in attempts:
            attempt.failed(why)


class Ports:
    """The sockets towards one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._inbox = Inbox()
        self._ports: list[Port | None] = [None] * SOCKETS
        self._retired: list[Port] = []
        #: Made ahead, so that no question waits for it: a socket in 32 is a question in 32, beyond the p99.
        self._spare: Port | None = None
        self._preparing = False

    def send(self, query: bytes, attempt: Attempt) -> tuple[Port, bytes]:
        """Send a query under a random id; what to ``forget`` it with. Raises OSError."""
        port, _ = self.vacant()
        ident = os.urandom(2)
        while ident in port.waiting:
            ident = os.urandom(2)
        port.send(ident, query, attempt)
        return port, ident

    def vacant(self) -> tuple[Port, int]:
        """A port by chance, and for how many questions it may be used. Raises OSError."""
        slot = os.urandom(1)[0] % SOCKETS
        port = self._ports[slot]
        if port is None or port.uses >= USES or monotonic() - port.born > LIFE_SECONDS:
            port = self._fresh(slot)
        return port, USES - port.uses

    def _prepare(self) -> None:
        self._preparing = False
        if self._spare is None and any(self._ports):
            with contextlib.suppress(OSError):  # who needs it is told
                self._spare = Port(self._host, self._port, self._inbox)

    def _fresh(self, slot: int) -> Port:
        made, self._spare = self._spare, None
        if made is None or monotonic() - made.born > LIFE_SECONDS:
            if made is not None:
                made.retire()
            made = Port(self._host, self._port, self._inbox)
        if not self._preparing:
            self._preparing = True
            asyncio.get_running_loop().call_soon(self._prepare)
        self._retire(slot)
        self._ports[slot] = made
        return made

    def _retire(self, slot: int) -> None:
        old, self._ports[slot] = self._ports[slot], None
        if old is not None:
            old.retire()
            if old.waiting:
                self._retired.append(old)

    def tidy(self) -> bool:
        """Close what is old; whether any socket is left."""
        limit = monotonic() - LIFE_SECONDS
        for slot, port in enumerate(self._ports):
            if port is not None and port.born < limit:
                self._retire(slot)
        if self._spare is not None and self._spare.born < limit:
            self._spare.retire()
            self._spare = None
        self._retired = [port for port in self._retired if port.waiting]
        return bool(self._retired or self._spare) or any(self._ports)

    def close(self) -> None:
        for slot in range(SOCKETS):
            self._retire(slot)
        if self._spare is not None:
            self._spare.retire()
            self._spare = None
        for port in self._retired:
            if port.waiting:
                port.waiting.clear()
                port.close()
        self._retired.clear()
