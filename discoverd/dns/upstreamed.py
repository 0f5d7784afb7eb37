"""What an upstream server has answered, taken apart as far as it takes to keep it and to give it on.

OPT is between two neighbours (RFC 6891 section 6.1.1): it goes no further than here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from discoverd.dns import message
from discoverd.dns.message import HEADER, HEADER_SIZE, MalformedError, skip_name

#: Of these rcodes answers are kept.
KEPT_RCODES: Final = (message.NOERROR, message.NXDOMAIN)
#: Seconds that answers are kept at most: a day, and a negative one three hours (RFC 2308 section 5).
POSITIVE_MOST: Final = 86_400
NEGATIVE_MOST: Final = 10_800
#: A TTL from here on counts as 0 (RFC 2181 section 8).
TTL_BOUND: Final = 1 << 31
SOA: Final = 6
#: A record between its owner and its data; octets of it, of what is before the TTL, and from there on.
FIXED: Final = struct.Struct("!HHIH")
RECORD_HEAD: Final = FIXED.size
TTL_AT, TTL_BEFORE_DATA = 4, 6
TTL: Final = struct.Struct("!I")
#: The first octet of a name that is a pointer is at least this.
POINTER: Final = 0xC0


@dataclass(slots=True)  # never changed; frozen, each would cost three times as much to make
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

    @property
    def is_good(self) -> bool:
        """Whether it says what there is, or that there is nothing: such answers are kept."""
        return self.flags[1] & 0xF in KEPT_RCODES and not self.extended

    @property
    def size(self) -> int:
        """Octets that it takes, more or less."""
        return len(self.records) + 32 * len(self.ttls)

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
            after = at + TTL_BEFORE_DATA + int.from_bytes(records[at + TTL_AT : at + TTL_BEFORE_DATA], "big")
            if after > room:
                break
            count, end = count + 1, after
        return records[:end], (count, 0, 0)


def read(reply: bytes, asked: bytes) -> Upstreamed:
    """Take a reply to a question (in lower case) apart. Raises MalformedError."""
    try:
        return _read(reply, asked)
    except (struct.error, IndexError):
        raise MalformedError("a record is cut off") from None


def _read(reply: bytes, asked: bytes) -> Upstreamed:
    _, flags, questions, answers, authority, additional = HEADER.unpack_from(reply)
    begin = offset = HEADER_SIZE + len(asked)
    if questions != 1 or not (
        reply.startswith(asked, HEADER_SIZE) or reply[HEADER_SIZE:begin].lower() == asked
    ):
        raise MalformedError("the reply is to another question")
    wanted, unpack = int.from_bytes(asked[-4:-2], "big"), FIXED.unpack_from
    ttls: list[int] = []
    least, negative, holds = POSITIVE_MOST, -1, wanted == message.ANY_TYPE and answers > 0
    # no call for each record, which is a third of the time
    for number in range(answers + authority):
        # nearly every owner is a pointer (RFC 1035 section 4.1.4)
        offset = offset + 2 if reply[offset] >= POINTER else skip_name(reply, offset)
        kind, _, ttl, length = unpack(reply, offset)
        ttls.append(offset + TTL_AT - begin)
        offset += RECORD_HEAD + length
        if ttl < least or ttl >= TTL_BOUND:
            least = ttl if ttl < TTL_BOUND else 0
        if number < answers:
            if kind == wanted:
                holds = True
        elif kind == SOA:
            negative = min(ttl if ttl < TTL_BOUND else 0, int.from_bytes(reply[offset - 4 : offset], "big"))
    extended, end, after, begin_of_additional = 0, 0, 0, offset
    for _ in range(additional):
        start = offset
        offset = skip_name(reply, offset)
        kind, _, ttl, length = unpack(reply, offset)
        offset += RECORD_HEAD + length
        if kind == message.OPT:
            extended, end, after = ttl >> 24, start, offset
        else:
            ttls.append(offset - length - TTL_BEFORE_DATA - begin)
            if ttl < least or ttl >= TTL_BOUND:
                least = ttl if ttl < TTL_BOUND else 0
    if offset > len(reply):
        raise MalformedError("a record is cut off")
    if not end:
        end = offset
    else:
        additional -= 1
        if after != offset:
            # what stands behind OPT may not move, others may point to it; it is for convenience
            end, additional = begin_of_additional, 0
            ttls = [at for at in ttls if at + begin < end]
    lifetime = 0
    if not extended and flags & 0xF in KEPT_RCODES and not flags & message.TC:
        if holds and flags & 0xF == message.NOERROR:
            lifetime = least
        else:
            # RFC 2308 section 5: without an SOA record nothing says how long there is nothing
            lifetime = max(0, min(least, negative, NEGATIVE_MOST))
    counts = answers, authority, additional
    return Upstreamed(reply[2:4], counts, reply[begin:end], extended, tuple(ttls), lifetime)
