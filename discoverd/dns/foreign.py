"""A question for somebody else's name: what is asked upstream of it, and what the asker gets back.

OPT is between two neighbours (RFC 6891 section 6.1.1): neither the asker's nor the upstream
server's is passed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from discoverd.dns import message, upstreamed
from discoverd.dns.message import HEADER_SIZE, MalformedError
from discoverd.resolver.upstreams.query import HOPS, MARK_SIZE, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.message import Query
    from discoverd.dns.store import Store
    from discoverd.dns.upstreamed import Upstreamed
    from discoverd.resolver.outcome import Outcome

#: What of a query's flags means something to a resolver: RD, AD (RFC 6840 section 5.7), CD.
PASSED_ON: Final = message.RD | 0x30
#: Those of them that make replies differ, beside DO.
VARYING: Final = 0x30
#: Where the upper bits of a reply's rcode stand in OPT.
EXTENDED_RCODE: Final = 5
#: Id, flags in two halves, counts.
HEAD: Final = struct.Struct("!2sBBHHHH")
QR, TC, AA, RA = (flag >> 8 or flag for flag in (message.QR, message.TC, message.AA, message.RA))


class Waiter:
    """An asker who waits: its id, its question in its letter case, the OPT record that it gets, how many
    octets it takes, and how its one reply is sent.
    """

    __slots__ = ("asked", "ident", "limit", "opt", "send", "served")

    def __init__(
        self, ident: bytes, asked: bytes, opt: bytes, limit: int, send: Callable[[bytes], None]
    ) -> None:
        self.ident, self.asked, self.opt, self.limit, self.send = ident, asked, opt, limit, send
        self.served = False

    def serve(self, reply: bytes) -> None:
        if not self.served:
            self.served = True
            self.send(reply)

    def answer(self, reply: Upstreamed, records: bytes, *, kept: bool = False) -> bytes:
        """A reply with these records; ``kept`` ones are nobody's own word."""
        return given(self.ident, self.asked, self.opt, self.limit, reply, records, kept=kept)

    def failure(self, rcode: int) -> bytes:
        return failed(self.ident, self.asked, self.opt, rcode)


def given(  # noqa: PLR0917 - an object to hold it would be made for each question
    ident: bytes,
    asked: bytes,
    opt: bytes,
    limit: int,
    reply: Upstreamed,
    records: bytes,
    *,
    kept: bool = False,
) -> bytes:
    """A reply as the asker gets it: the question in its letter case, our OPT record; TC and the answers that
    fit where it is larger than may be.
    """
    (high, low), (answers, authority, additional) = reply.flags, reply.counts
    if reply.extended:
        if not opt:
            return failed(ident, asked, opt, message.SERVFAIL)  # there is no way to say it
        opt = opt[:EXTENDED_RCODE] + bytes((reply.extended,)) + opt[EXTENDED_RCODE + 1 :]
    room = limit - HEADER_SIZE - len(asked) - len(opt)
    if len(records) > room:
        (records, (answers, authority, additional)), high = reply.cut(records, room), high | TC
    if kept:
        high &= ~AA
    if opt:
        additional += 1
    return HEAD.pack(ident, high, low | RA, 1, answers, authority, additional) + asked + records + opt


def failed(ident: bytes, asked: bytes, opt: bytes, rcode: int) -> bytes:
    """A reply without records. The question came with RD, else nobody would be asked."""
    return HEAD.pack(ident, QR | message.RD >> 8, RA | rcode, 1, 0, 0, bool(opt)) + asked + opt


@dataclass(frozen=True, slots=True)
class Awaited:
    """What has to be looked up, and the reply that an outcome makes."""

    lookup: object
    reply: Callable[[Outcome], bytes]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A query by an asker that may have it forwarded."""

    query: Query
    tcp: bool
    #: What is advertised to the asker, in octets.
    udp_size: int
    #: The OPT record for the asker, and how many octets a reply may have.
    opt: bytes
    limit: int
    #: Set where the question is ours, and its answer has to be looked up first.
    awaited: Awaited | None = None
    #: Where a reply may be kept for the asker's view, and the query behind its id; None where it may not.
    store: Store | None = None
    octets: bytes = b""

    @property
    def asked(self) -> Asked:
        """What is asked upstream: the question with RD, AD, CD and DO as they came."""
        query = self.query
        do = query.edns is not None and query.edns.do
        return Asked(query.flags & PASSED_ON, query.asked, do, self.hops)

    @property
    def hops(self) -> bytes:
        """The marks of the servers that it has come by."""
        edns = self.query.edns
        if edns is None:
            return b""
        data = b"".join(data for code, data in edns.options if code == HOPS)
        return data[: len(data) // MARK_SIZE * MARK_SIZE]

    @property
    def key(self) -> bytes:
        """What replies are kept under: the question, and what makes replies to it differ."""
        query = self.query
        do = query.edns is not None and query.edns.do
        return query.key + bytes((query.flags & VARYING | do,))

    def waiter(self, send: Callable[[bytes], None]) -> Waiter:
        query = self.query
        return Waiter(query.id.to_bytes(2, "big"), query.asked, self.opt, self.limit, send)

    def answer(self, reply: Upstreamed, records: bytes, *, kept: bool = False) -> bytes:
        return self.waiter(_nowhere).answer(reply, records, kept=kept)

    def failure(self, rcode: int) -> bytes:
        return message.reply(self.query, message.RA, rcode, (0, 0, 0), b"", self.opt)

    def finish(self, octets: bytes) -> bytes:
        """An upstream server's reply as the asker gets it; SERVFAIL for one that cannot be read."""
        try:
            reply = upstreamed.read(octets, self.query.key)
        except MalformedError:
            return self.failure(message.SERVFAIL)
        return self.answer(reply, reply.records)


def _nowhere(_reply: bytes) -> None:
    """Who makes a reply and gives it back."""
