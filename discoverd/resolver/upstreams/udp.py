"""UDP to one name server, from ports that cannot be foreseen.

Sockets are connected, so the kernel picks a random port for each and drops what comes from elsewhere.
One is used for a second and a few questions only: whoever wants to forge a reply has to guess the id
and the port, again and again (RFC 5452 section 4.5). A socket for every single question was measured
to cost half as much again under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from discoverd.resolver.upstreams.query import HEADER_SIZE, ONE_QUESTION, QR, TC, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.resolver.upstreams.flights import Crowd, Flight
    from discoverd.resolver.upstreams.query import Attempt

    Arrived = defaultdict[Crowd, list[tuple[Flight, bytes]]]

#: Sockets that are taken by chance, questions that each is used for, and for how many seconds.
SOCKETS: Final = 16
USES: Final = 32
LIFE_SECONDS: Final = 1.0
#: Octets read of one reply; a longer one is taken for truncated.
LARGEST: Final = 4096
#: Rcodes that need no second thought: NOERROR and NXDOMAIN.
GOOD: Final = (0, 3)
#: Where these stand in a Flight.
KEY: Final = 0
QUESTION: Final = 1
IDENT: Final = 5
GROUP: Final = 6


class Port:
    """One connected socket. ``stray`` counts what came that nobody had asked for."""

    __slots__ = ("_inbox", "_sock", "born", "retired", "stray", "uses", "waiting")

    def __init__(self, host: str, port: int, inbox: Inbox) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect((host, port))
        except OSError:
            self._sock.close()
            raise
        self._inbox = inbox
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
        failed, send = [], self._sock.send
        self.uses += len(packets)
        for packet in packets:
            try:
                send(packet)
            except OSError as error:
                failed.append((packet[:2], error.strerror or str(error)))
        return failed

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
        waiting, receive = self.waiting, self._sock.recv
        group, count = None, 0
        while self._sock.fileno() >= 0:
            try:
                reply = receive(LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # an ICMP message: nobody is there
                self._fail(error.strerror or str(error))
                break
            ident = reply[:2]
            attempt = waiting.get(ident)
            if isinstance(attempt, tuple):
                if is_plainly_good(reply, attempt[QUESTION]):
                    del waiting[ident]
                    group = attempt[GROUP]
                    del group.flights.under_way[attempt[KEY]]
                    arrived[group.crowd].append((attempt, reply))
                    count += 1
                    if self.retired and not waiting:
                        self.close()
                    continue
                if matches(reply, attempt[QUESTION]):
                    attempt = attempt[GROUP].flights.landed(attempt)
                else:
                    attempt = None
            if attempt is None or not matches(reply, attempt.question):
                self.stray += 1
                continue
            if len(reply) == LARGEST:
                reply = reply[:2] + bytes((reply[2] | TC,)) + reply[3:]
            self.forget(ident)
            attempt.replied(reply)
        if group is not None:
            group.server.answers(monotonic() - group.sent, count)

    def _fail(self, why: str) -> None:
        attempts = [
            each[GROUP].flights.landed(each) if isinstance(each, tuple) else each
            for each in list(self.waiting.values())
        ]
        self.waiting.clear()
        if self.retired:
            self.close()
        for attempt in attempts:
            attempt.failed(why)


def is_plainly_good(reply: bytes, question: bytes) -> bool:
    """Whether there is nothing to think about: all of a reply to the letter, NOERROR or NXDOMAIN."""
    return (
        reply.startswith(question, HEADER_SIZE)
        and reply[4:6] == ONE_QUESTION
        and reply[2] & (QR | TC) == QR
        and reply[3] & 0xF in GOOD
        and len(reply) < LARGEST
    )


class Inbox:
    """Reads all sockets in one turn of the event loop: a callback of its own for each cost more than
    reading it.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._selector: Any = None

    def add(self, sock: socket.socket, port: Port) -> None:
        if self._selector is None:
            # epoll or kqueue: both can be waited for themselves
            self._selector = selectors.DefaultSelector()
            self._loop = asyncio.get_running_loop()
            self._fd = self._selector.fileno()
            self._loop.add_reader(self._fd, self._read)
        self._selector.register(sock, selectors.EVENT_READ, port)

    def remove(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        if not self._selector.get_map():
            assert self._loop is not None
            self._loop.remove_reader(self._fd)
            self._selector.close()
            self._selector = None

    def _read(self) -> None:
        arrived: Arrived = defaultdict(list)
        for key, _ in self._selector.select(0):
            key.data.read(arrived)
        for crowd, replies in arrived.items():
            crowd.answered(replies)


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
