"""One question under way: a try at one server after the other, until a reply is good or time is over."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from discoverd.resolver.upstreams.query import FORMERR, HEADER_SIZE, NOTIMP, SERVER_ERRORS, TC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.resolver.upstreams.flights import Group
    from discoverd.resolver.upstreams.query import Asked
    from discoverd.resolver.upstreams.server import Server
    from discoverd.resolver.upstreams.udp import Port

log = logging.getLogger("discoverd.forward")

#: Seconds for all tries together: Docker's embedded server waits 4 s before it asks the next server or
#: stays silent.
ALL_SECONDS: Final = 3.5
#: Tries of one question, at all servers together.
TRIES_MOST: Final = 6


#: What is never due.
NEVER: Final = float("inf")


class Asker(Protocol):
    """Who has a question asked on behalf of those that wait for it."""

    def read(self, reply: bytes, pending: Pending, /) -> Any:
        """What a reply says. Raises ValueError."""

    def impatient(self, pending: Pending, /) -> None:
        """The time that was given for it is over; it goes on being asked."""

    def settled(self, pending: Pending, read: Any, why: str, /) -> None:
        """It is at its end: what was read of the reply, or None and why."""


class Try:
    """One query to one server."""

    __slots__ = (
        "_ident",
        "_owner",
        "_port",
        "answered",
        "over",
        "plain",
        "question",
        "sent",
        "server",
        "stream",
    )

    def __init__(self, owner: Pending, server: Server, now: float, *, stream: bool) -> None:
        self._owner, self.server, self.stream, self.plain = owner, server, stream, not server.edns
        self.question = owner.asked.question
        self.sent, self.over, self.answered = now, False, False
        self._port: Port | None = None

    def send(self, query: bytes) -> None:
        server = self.server
        server.sent += 1
        if self.stream:
            server.stream.send(query, self)
            return
        try:
            self._port, self._ident = server.ports.send(query, self)
        except OSError as error:
            self.failed(error.strerror or str(error))

    def sent_by(self, port: Port, ident: bytes) -> None:
        """It was sent already, and hears of the reply from now on."""
        self._port, self._ident = port, ident
        port.waiting[ident] = self

    def forget(self) -> None:
        """What comes now is too late."""
        if self.over:
            return
        self.over = True
        if self._port is not None:
            self._port.forget(self._ident)
        elif self.stream:
            self.server.stream.forget(self)

    def replied(self, reply: bytes) -> None:
        self.over = self.answered = True
        self.server.answers(monotonic() - self.sent)
        self._owner.replied(self, reply)

    def failed(self, why: str) -> None:
        self.over = True
        self._owner.failed(self, why)


class Pending:
    """The question, its tries, and who waits for it. ``done`` is called once, at its end, with what was
    read of the reply, or None and why.
    """

    __slots__ = (
        "_done", "_end_at", "_fallback", "_order", "_slow", "_tries", "_turn", "_why",
        "asked", "asker", "due", "ended", "key", "overdue", "patience_ends", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        key: bytes,
        asked: Asked,
        asker: Asker,
        done: Callable[[Pending, Any, str], None],
    ) -> None:
        self.key, self.asked, self.asker, self._done = key, asked, asker, done
        self.waiters: list[Any] = []
        self._tries: list[Try] = []
        self._order: Sequence[Server] = ()
        self._turn = 0
        #: Monotonic times at which :meth:`late` is due, and at which the asker is told that it takes long.
        self.due = self._end_at = 0.0
        self.patience_ends = NEVER
        self.ended = False
        #: Whether time was over before anybody had answered.
        self.overdue = False
        #: A reply that is better than none: an error, or what there was before it was cut off.
        self._fallback: Any = None
        self._why = ""
        self._slow: tuple[Server, ...] = ()

    def begin(self, servers: Sequence[Server]) -> None:
        """Ask the first server."""
        now = monotonic()
        self._order = in_order(servers, self.asked, now)
        self.due = self._end_at = now + ALL_SECONDS
        self._next()

    def adopt(self, group: Group) -> Try:
        """The first server was asked already."""
        self._order, self._turn, self._end_at = group.order, 1, group.sent + ALL_SECONDS
        self.due = min(group.due, self._end_at)
        attempt = Try(self, group.server, group.sent, stream=False)
        attempt.plain = group.plain
        self._tries.append(attempt)
        return attempt

    def late(self, now: float) -> None:
        """The reply is overdue: somebody else is asked, or the same once more."""
        last = self._tries[-1] if self._tries else None
        if last is not None and not last.over:
            if last.server not in self._slow:
                # one name that takes a server long is one failure, however often it is asked for
                self._slow += (last.server,)
                last.server.fails("no answer", now)
            self._why = f"no answer from {self._named()}"
            if last.stream:
                last.server.stream.distrust(last.sent)
        if now >= self._end_at:
            self.overdue = self._fallback is None
            self.end(self._fallback, f"{self._why or 'no answer'} within {ALL_SECONDS} s")
            return
        self._next()

    def replied(self, attempt: Try, reply: bytes) -> None:
        if self.ended:
            return
        rcode = reply[3] & 0xF
        if rcode in (FORMERR, NOTIMP) and not attempt.plain and self._knows_no_edns(reply):
            log.info("%s does not know EDNS: it is asked without", attempt.server)
            attempt.server.edns = False
            self._try(attempt.server, stream=attempt.stream)
            return
        try:
            read = self.asker.read(reply, self)
        except ValueError as error:
            self.failed(attempt, f"a reply that cannot be read: {error}")
            return
        if reply[2] & TC and not attempt.stream:
            self._fallback = self._fallback or read
            self._try(attempt.server, stream=True)
        elif rcode in SERVER_ERRORS:
            self._fallback = self._fallback or read
            self._why = f"{attempt.server} answers with rcode {rcode}"
            self._next(again=False)
        else:
            self.end(read, "")

    def failed(self, attempt: Try, why: str) -> None:
        if self.ended:
            return
        self._why = f"{attempt.server}: {why}"
        attempt.server.fails(why, monotonic())
        if attempt is self._tries[-1]:
            self._next(again=False)

    def give_up(self, server: Server) -> None:
        """A server has passed the question back to us: no reply of its can be any good."""
        if not self.ended:
            self._why = f"what is asked of {server} comes back"
            if server in self._order[: self._turn]:
                self._turn -= 1
            self._order = [each for each in self._order if each is not server]
            self._next(again=False)

    def silent(self) -> list[Server]:
        """Servers that were asked and have not answered."""
        return list(dict.fromkeys(each.server for each in self._tries if not each.answered))

    def end(self, reply: Any, why: str) -> None:
        if self.ended:
            return
        self.ended = True
        for attempt in self._tries:
            attempt.forget()
        self._done(self, reply, why)

    def _next(self, *, again: bool = True) -> None:
        """The next server in order; with ``again``, from the first on once all were asked."""
        asked_all = self._turn >= len(self._order)
        if not self._order or self._turn >= TRIES_MOST or (asked_all and not again):
            if any(not each.over for each in self._tries) and self._order:
                self.due = self._end_at  # somebody may still answer
                return
            self.end(self._fallback, self._why or "every server that could be asked passes it back")
            return
        server = self._order[self._turn % len(self._order)]
        self._turn += 1
        self._try(server, stream=server.upstream.tls)

    def _try(self, server: Server, *, stream: bool) -> None:
        now = monotonic()
        attempt = Try(self, server, now, stream=stream)
        self._tries.append(attempt)
        rounds = (self._turn - 1) // (len(self._order) or 1)
        self.due = min(self._end_at, now + server.patience() * 2**rounds)
        attempt.send(server.query(self.asked))

    def _knows_no_edns(self, reply: bytes) -> bool:
        """Whether an error comes without OPT (RFC 6891 section 7)."""
        return len(reply) == HEADER_SIZE or reply[10:12] == b"\0\0"

    def _named(self) -> str:
        return ", ".join(dict.fromkeys(str(each.server) for each in self._tries))


def in_order(servers: Sequence[Server], asked: Asked, now: float) -> Sequence[Server]:
    """The fastest first, those that pass such names back to us not at all."""
    if any(server.loops for server in servers):
        servers = [server for server in servers if not server.passes_back(asked.name, now)]
    return fastest_first(servers)


def fastest_first(servers: Sequence[Server]) -> Sequence[Server]:
    """Those that are down last."""
    if len(servers) > 1:
        servers = sorted(servers, key=lambda server: server.cost())
        for server in servers[1:]:
            server.passed_over()
    return servers
