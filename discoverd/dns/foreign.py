"""A question for somebody else's name: what is asked upstream of it, and what the asker gets back.

OPT is between two neighbours (RFC 6891 section 6.1.1): neither the asker's nor the upstream
server's is passed on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from discoverd.dns import message
from discoverd.dns.message import HEADER, HEADER_SIZE, OPT_SIZE, MalformedError, skip_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.message import Query
    from discoverd.resolver.outcome import Outcome

#: What of a query's flags means something to a resolver: RD, AD (RFC 6840 section 5.7), CD.
PASSED_ON: Final = message.RD | 0x30
#: Where the upper bits of a reply's rcode stand in OPT.
EXTENDED_RCODE: Final = 5


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

    @property
    def packet(self) -> bytes:
        """What to ask upstream: the question, with an OPT record of ours where the asker had one."""
        query, opt = self.query, b""
        if query.edns is not None:
            room = max(message.PLAIN_UDP, min(self.limit, self.udp_size) - len(self.opt) + OPT_SIZE)
            opt = message.opt(room, do=query.edns.do)
        head = HEADER.pack(query.id, query.flags & PASSED_ON, 1, 0, 0, bool(opt))
        return head + query.asked + opt

    def finish(self, reply: bytes) -> bytes:
        """An upstream reply as the asker gets it: the question in its letter case, our OPT record.

        SERVFAIL for one that cannot be read, TC for one that is larger than may be.
        """
        try:
            body, ids_and_flags, counts, extended = self._read(reply)
        except (MalformedError, struct.error):
            return self.failure(message.SERVFAIL)
        if len(body) + HEADER_SIZE + len(self.query.asked) + len(self.opt) > self.limit:
            body, counts = b"", (0, 0, 0)
            ids_and_flags = ids_and_flags[:2] + bytes((ids_and_flags[2] | message.TC >> 8, ids_and_flags[3]))
        opt = self.opt
        if opt and extended:
            opt = opt[:EXTENDED_RCODE] + bytes((extended,)) + opt[EXTENDED_RCODE + 1 :]
        answers, authority, additional = counts
        head = ids_and_flags + struct.pack("!4H", 1, answers, authority, additional + bool(opt))
        return b"".join((head, self.query.asked, body, opt))

    def failure(self, rcode: int) -> bytes:
        return message.reply(self.query, message.RA, rcode, (0, 0, 0), b"", self.opt)

    def _read(self, reply: bytes) -> tuple[bytes, bytes, tuple[int, int, int], int]:
        """Records without OPT, id and flags, section counts, upper bits of the rcode."""
        _, _, questions, answers, authority, additional = HEADER.unpack_from(reply)
        begin = offset = HEADER_SIZE + len(self.query.asked)
        if questions != 1 or reply[HEADER_SIZE:begin].lower() != self.query.key:
            raise MalformedError("the reply is to another question")
        extended, end, begin_of_additional = 0, None, begin
        for number in range(answers + authority + additional):
            start, offset = offset, skip_name(reply, offset)
            kind, _, ttl, length = struct.unpack_from("!HHIH", reply, offset)
            offset += 10 + length
            if number == answers + authority:
                begin_of_additional = start
            if number >= answers + authority and kind == message.OPT:
                extended, end = ttl >> 24, start
        if offset > len(reply):
            raise MalformedError("a record is cut off")
        if end is not None:
            additional -= 1
            if _record_end(reply, end) != offset:
                # what stands behind OPT may not move, others may point to it; it is for convenience
                end, additional = begin_of_additional, 0
        records = reply[begin : offset if end is None else end]
        return records, reply[:4], (answers, authority, additional), extended


def _record_end(reply: bytes, start: int) -> int:
    offset = skip_name(reply, start)
    return offset + 10 + int.from_bytes(reply[offset + 8 : offset + 10], "big")
