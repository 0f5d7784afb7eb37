"""What replies have in common: all but names, TTLs and data is alike from one to the next.

The reply to a question is read record by record once (:mod:`.upstreamed`); what was looked at is
remembered as a shape: a mask over the octets behind the question, and what stands under it. A reply
that is equal under the mask reads the same, up to TTLs and data, which is seen by one comparison of large
numbers in place of a walk over its records.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from discoverd.dns import message
from discoverd.dns.foreign import HEAD, RA
from discoverd.dns.message import HEADER, skip_name
from discoverd.dns.upstreamed import (
    FIXED,
    NEGATIVE_MOST,
    POINTER,
    POSITIVE_MOST,
    RECORD_HEAD,
    SOA,
    TTL,
    TTL_AT,
    TTL_BOUND,
    Upstreamed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Shapes that are remembered, 1 to 4 KB each.
SHAPES_MOST: Final = 1000
#: Replies of one form (:data:`Form`) that are read before a shape is made of the next, and of those that do
#: not fit it before another is.
AFTER: Final = 1
AFTER_ODD: Final = 50

#: Flags and counts, the type and class that were asked for, octets behind the question.
Form = tuple[bytes, bytes, int]


class Shape:
    """One of them. ``fits`` where ``int.from_bytes(rest) & mask == wanted``."""

    __slots__ = (
        "cap",
        "counted",
        "counts",
        "end",
        "flags",
        "heads",
        "mask",
        "odd",
        "seconds",
        "ttls",
        "wanted",
    )

    def __init__(self, read: Upstreamed, mask: int, wanted: int, seconds: struct.Struct, cap: int) -> None:
        self.mask, self.wanted, self.seconds, self.cap = mask, wanted, seconds, cap
        self.flags, self.counts, self.ttls, self.end = read.flags, read.counts, read.ttls, len(read.records)
        (high, low), (answers, authority, additional) = read.flags, read.counts
        #: Octets 2 to 12 of what an asker gets, without an OPT record and with one.
        self.heads = tuple(
            HEAD.pack(b"", high, low | RA, 1, answers, authority, additional + opt)[2:] for opt in (0, 1)
        )
        #: Where replies are counted, by view.
        self.counted: dict[str, int] = {}
        #: Replies of its form that did not fit.
        self.odd = 0

    def read(self, rest: bytes) -> Upstreamed:
        """What a reply says, as :func:`.upstreamed.read` would; ``rest`` is behind its question."""
        lifetime = min(self.cap, *self.seconds.unpack_from(rest)) if self.cap else 0
        return Upstreamed(self.flags, self.counts, rest[: self.end], 0, self.ttls, lifetime)


class Shapes:
    """Those that were seen, by their forms; a number where none is known yet: how many replies to wait."""

    def __init__(self) -> None:
        self.known: dict[Form, Shape | int] = {}

    def learn(self, form: Form, reply: bytes, begin: int, read: Upstreamed) -> None:
        """A reply was read of which no shape is known, or another one; ``begin`` is where its records do."""
        known = self.known
        before = known.get(form)
        if before is None:
            if len(known) >= SHAPES_MOST:
                known.clear()
            known[form] = AFTER
        elif isinstance(before, Shape):
            before.odd += 1
            if before.odd >= AFTER_ODD:
                known[form] = AFTER
        elif before > 1:
            known[form] = before - 1
        else:
            known[form] = shape_of(reply, begin, read) or AFTER_ODD


def shape_of(reply: bytes, begin: int, read: Upstreamed) -> Shape | None:
    """The shape of a reply that was read; None where it is too odd to have one."""
    _, flags, _, answers, authority, additional = HEADER.unpack_from(reply)
    if not read.is_good or flags & message.TC:
        return None
    wanted = int.from_bytes(reply[begin - 4 : begin - 2], "big")
    holds, minimum, opts = wanted == message.ANY_TYPE and answers > 0, -1, 0
    mask, offset = bytearray(len(reply) - begin), begin
    times: list[int] = []
    for number in range(answers + authority + additional):
        if opts:
            return None  # something stands behind OPT
        owner = offset - begin
        if reply[offset] >= POINTER:
            mask[owner], offset = POINTER, offset + 2
        else:
            offset = skip_name(reply, offset)
            mask[owner : offset - begin] = b"\xff" * (offset - begin - owner)
        kind, _, ttl, length = FIXED.unpack_from(reply, offset)
        at, offset = offset - begin, offset + RECORD_HEAD + length
        mask[at : at + 2] = mask[at + RECORD_HEAD - 2 : at + RECORD_HEAD] = b"\xff\xff"
        if kind == message.OPT and number >= answers + authority:
            opts, mask[at + TTL_AT] = opts + 1, 0xFF  # the upper bits of the rcode
            continue
        if ttl >= TTL_BOUND:
            return None
        mask[at + TTL_AT] = 0x80
        times.append(at + TTL_AT)
        if number < answers:
            holds = holds or kind == wanted
        elif kind == SOA and number < answers + authority:
            if length < TTL.size:
                return None
            minimum = offset - begin - TTL.size
    cap = 0
    if holds and flags & 0xF == message.NOERROR:
        cap = POSITIVE_MOST
    elif minimum >= 0:
        cap, times = NEGATIVE_MOST, sorted((*times, minimum))
    under = int.from_bytes(mask, "big")
    return Shape(read, under, under & int.from_bytes(reply[begin:], "big"), _at(times), cap)


def _at(places: Sequence[int]) -> struct.Struct:
    """Reads four octets at each of these places, which are in order."""
    gaps = (here - before for before, here in zip((-TTL.size, *places), places, strict=False))
    return struct.Struct("!" + "".join(f"{gap - TTL.size}xI" for gap in gaps))
