"""A question for somebody else's name: what is asked upstream of it, and what the asker gets back.

OPT is between two neighbours (RFC 6891 section 6.1.1): neither the asker's nor the upstream
server's is passed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from discoverd.dns import message
from discoverd.dns.message import HEADER, HEADER_SIZE, MalformedError, skip_name
from discoverd.resolver.upstreams.query import HOPS, MARK_SIZE, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.message import Query
    from discoverd.dns.store import Store
    from discoverd.resolver.outcome import Outcome

#: What of a query's flags means something to a resolver: RD, AD (RFC 6840 section 5.7), CD.
PASSED_ON: Final = message.RD | 0x30
#: Where the upper bits of a reply's rcode stand in OPT.
EXTENDED_RCODE: Final = 5
#: Of these rcodes answers are kept.
KEPT_RCODES: Final = (message.NOERROR, message.NXDOMAIN)
#: Seconds that answers are kept at most: a day, and a negative one three hours (RFC 2308 section 5).
POSITIVE_MOST: Final = 86_400
NEGATIVE_MOST: Final = 10_800
#: A TTL from here on counts as 0 (RFC 2181 section 8).
TTL_BOUND: Final = 1 << 31
SOA: Final = 6
FIXED: Final = struct.Struct("!HHIH")
TTL: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Upstreamed:
    """An upstream server's reply: flags, section counts and records without OPT, as they stand behind a
    question at offset 12; the upper bits of its rcode; where its TTLs are among the records; for how many
    seconds it may be kept.
    """

    flags: bytes
    counts: tuple[int, int, int]
    records: bytes
    extended: int
    ttls: tuple[int, ...]
    lifetime: int

    def aged(self, seconds: int, most: int = POSITIVE_MOST) -> bytes:
        """The records so many seconds later, no TTL above ``most``."""
        records = bytearray(self.records)
        for at in self.ttls:
            (ttl,) = TTL.unpack_from(records, at)
            TTL.pack_into(records, at, max(0, min(ttl - seconds, most)) if ttl < TTL_BOUND else 0)
        return bytes(records)

    def cut(self, records: bytes, room: int) -> tuple[bytes, tuple[int, int, int]]:
        """As many whole answers as there is room for, and their counts. Resolvers that never ask by TCP,
        such as musl's before 1.2.4, know no others.
        """
        count = end = 0
        for at in self.ttls[: self.counts[0]]:
            after = at + 6 + int.from_bytes(records[at + 4 : at + 6], "big")
            if after > room:
                break
            count, end = count + 1, after
        return records[:end], (count, 0, 0)


def read(reply: bytes, asked: bytes) -> Upstreamed:
    """Take a reply to a question (in lower case) apart. Raises MalformedError."""
    try:
        return _read(reply, asked)
    except struct.error:
        raise MalformedError("a record is cut off") from None


def _read(reply: bytes, asked: bytes) -> Upstreamed:
    _, flags, questions, answers, authority, additional = HEADER.unpack_from(reply)
    begin = offset = HEADER_SIZE + len(asked)
    if questions != 1 or reply[HEADER_SIZE:begin].lower() != asked:
        raise MalformedError("the reply is to another question")
    wanted = int.from_bytes(asked[-4:-2], "big")
    extended, end, begin_of_additional = 0, None, begin
    ttls: list[int] = []
    least, negative, holds = POSITIVE_MOST, -1, False
    size, own = len(reply), answers + authority
    for number in range(own + additional):
        start = offset
        # nearly every owner is a pointer (RFC 1035 section 4.1.4)
        offset = offset + 2 if offset < size and reply[offset] >= 0xC0 else skip_name(reply, offset)
        kind, _, ttl, length = FIXED.unpack_from(reply, offset)
        if number == own:
            begin_of_additional = start
        if number >= own and kind == message.OPT:
            extended, end = ttl >> 24, start
            after = offset + 10 + length
        else:
            ttls.append(offset + 4 - begin)
            seconds = ttl if ttl < TTL_BOUND else 0
            least = min(least, seconds)
            if number < answers:
                holds = holds or wanted in (kind, message.ANY_TYPE)
            elif number < own and kind == SOA:
                minimum = int.from_bytes(reply[offset + 6 + length : offset + 10 + length], "big")
                negative = min(seconds, minimum)
        offset += 10 + length
    if offset > size:
        raise MalformedError("a record is cut off")
    if end is not None:
        additional -= 1
        if after != offset:
            # what stands behind OPT may not move, others may point to it; it is for convenience
            end, additional = begin_of_additional, 0
            ttls = [at for at in ttls if at + begin < end]
    records = reply[begin : offset if end is None else end]
    lifetime = 0
    if not extended and flags & 0xF in KEPT_RCODES and not flags & message.TC:
        positive = holds and flags & 0xF == message.NOERROR
        # RFC 2308 section 5: without an SOA record nothing says how long there is nothing
        lifetime = least if positive else max(0, min(least, negative, NEGATIVE_MOST))
    return Upstreamed(reply[2:4], (answers, authority, additional), records, extended, tuple(ttls), lifetime)


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
        return Asked(query.question.name, query.flags & PASSED_ON, query.asked, do, self.hops)

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
        return query.key + bytes((query.flags & 0x30 | do,))

    def answer(self, reply: Upstreamed, records: bytes, *, kept: bool = False) -> bytes:
        """A reply with these records as the asker gets it: the question in its letter case, our OPT
        record; TC and the answers that fit where it is larger than may be.
        """
        (high, low), counts, opt = reply.flags, reply.counts, self.opt
        if reply.extended:
            if not opt:
                return self.failure(message.SERVFAIL)  # there is no way to say it
            opt = opt[:EXTENDED_RCODE] + bytes((reply.extended,)) + opt[EXTENDED_RCODE + 1 :]
        room = self.limit - HEADER_SIZE - len(self.query.asked) - len(opt)
        if len(records) > room:
            (records, counts), high = reply.cut(records, room), high | message.TC >> 8
        if kept:
            high &= ~message.AA >> 8
        answers, authority, additional = counts
        flags = high << 8 | low | message.RA
        head = HEADER.pack(self.query.id, flags, 1, answers, authority, additional + bool(opt))
        return b"".join((head, self.query.asked, records, opt))

    def finish(self, octets: bytes) -> bytes:
        """An upstream server's reply as the asker gets it; SERVFAIL for one that cannot be read."""
        try:
            reply = read(octets, self.query.key)
        except MalformedError:
            return self.failure(message.SERVFAIL)
        return self.answer(reply, reply.records)

    def failure(self, rcode: int) -> bytes:
        return message.reply(self.query, message.RA, rcode, (0, 0, 0), b"", self.opt)
