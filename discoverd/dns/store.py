"""What is kept for one view: packed replies, and the rings that give them out in rotation."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain, repeat
from operator import length_hint
from typing import TYPE_CHECKING, Final

from discoverd.dns import message, mmsg
from discoverd.dns.message import HEADER_SIZE, OPT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from discoverd.dns.hits import Hits
    from discoverd.dns.wire import Prepared
    from discoverd.views import View

#: Questions kept in one view, and queries kept exactly. Some 1,000 and 600 octets each.
STORE_MOST: Final = 200_000
EXACT_MOST: Final = 100_000
#: Octets of the largest query, id left out, that is kept exactly.
EXACT_SIZE: Final = 128
#: Rotations that are built beforehand; of larger sets each is built when its turn comes.
ROTATIONS_MOST: Final = 64

#: Times that one reply can be given: for ever.
USES_MOST: Final = 1 << 60

#: By form of the query: plain, with RD, with an OPT record, with both.
Headers = tuple[bytes, bytes, bytes, bytes]
#: Reply headers, whose turn it is, the records of every rotation, octets of a whole reply without OPT,
#: and where it is counted.
Ring = tuple[Headers, "Callable[[], int]", "Sequence[bytes] | Rotations", int, int]
#: Where a reply lies, its octets, and where it is counted; an iovec begins like this.
PLACE: Final = struct.Struct("@QQQ")


class Store:
    """Replies by question and by query. Both share one rotation for each question."""

    __slots__ = (
        "_foreign",
        "_hits",
        "denials",
        "exact",
        "may_recurse",
        "open",
        "place",
        "prepared",
        "rings",
        "view",
    )

    def __init__(self, view: View, *, may_recurse: bool, hits: Hits) -> None:
        """``hits`` is where what is given out from here is counted."""
        self.view, self.may_recurse = view, may_recurse
        #: Whether all that is not ours is asked of others; a link may make a name its own asker's alone.
        self.open = may_recurse and not view.links
        self._hits, self.place = hits, view.place.name.lower()
        #: By type in wire format, where names that are denied are counted.
        self.denials = hits.by_type(message.NXDOMAIN, self.place)
        #: Queries behind their ids to where the next reply lies.
        self.exact: dict[bytes, Iterator[bytes]] = {}
        #: Questions in lower case to their rings.
        self.rings: dict[bytes, Ring] = {}
        #: The same to packed records, for what no ring fits: TCP, small EDNS sizes.
        self.prepared: dict[bytes, Prepared] = {}
        #: Questions about what is not ours to the queries that replies are kept to.
        self._foreign: dict[bytes, set[bytes]] = {}

    def keep(self, question: bytes, prepared: Prepared, udp_size: int) -> None:
        """Keep the records that answer a lower-case question, each rotation ready if it may be."""
        self.prepared[question] = prepared
        room = udp_size - HEADER_SIZE - len(question) - OPT_SIZE
        if _alike(prepared, room):
            self.rings[question] = self._ring(question, prepared, room)

    def _ring(self, question: bytes, prepared: Prepared, room: int) -> Ring:
        tc, counts, first = prepared.body(0, room)
        flags = message.QR | message.AA | tc | prepared.rcode | (message.RA if self.may_recurse else 0)
        tails: Sequence[bytes] | Rotations = Rotations(prepared, room)
        if prepared.rotations <= ROTATIONS_MOST:
            tails = prepared.tails = (first, *map(tails.__getitem__, range(1, prepared.rotations)))
        size = HEADER_SIZE + len(question) + len(first)
        number = self.number(question, prepared.rcode)
        return _headers(flags, *counts), prepared.starts.__next__, tails, size, number

    def keep_exact(self, query: bytes, question: bytes, head: bytes, opt: bytes) -> None:
        """Lay out all replies to one query one after the other, ready to be sent from there."""
        prepared = self.prepared[question]
        tails = prepared.tails
        if tails is None or query in self.exact or len(query) > EXACT_SIZE or len(self.exact) >= EXACT_MOST:
            return
        replies = [head + tail + opt for tail in tails]
        block = b"".join(replies)
        at, number = mmsg.address(block), self.number(question, prepared.rcode)
        places = _Places(block)
        for reply in replies:
            places.append(PLACE.pack(at, len(reply), number))
            at += len(reply)
        self.exact[query] = map(places.__getitem__, prepared.starts)
        prepared.queries = (*prepared.queries, query)

    def number(self, question: bytes, rcode: int) -> int:
        """Where replies to a lower-case question are counted."""
        return self._hits.by_type(rcode, self.place)[question[-4:-2]]

    def keep_reply(self, query: bytes, question: bytes, reply: bytes) -> Uses:
        """Keep a reply that does not rotate, in place of one that is kept already."""
        self._foreign.setdefault(question, set()).add(query)
        places, uses = _Places(reply), Uses()
        number = self.number(question, reply[1] & 0xF)
        places.append(PLACE.pack(mmsg.address(reply), len(reply), number))
        self.exact[query] = map(places.__getitem__, uses.zeros)
        return uses

    def drop(self, question: bytes) -> None:
        for query in self._foreign.pop(question, ()):
            self.exact.pop(query, None)
        prepared = self.prepared.pop(question, None)
        if prepared is not None:
            self.rings.pop(question, None)
            for query in prepared.queries:
                self.exact.pop(query, None)


class Uses:
    """How often a reply was given: counted in C, by how far a long iterator has come."""

    __slots__ = ("zeros",)

    def __init__(self) -> None:
        self.zeros = repeat(0, USES_MOST)

    @property
    def count(self) -> int:
        return USES_MOST - length_hint(self.zeros)


class Rotations:
    """A large set's records from the start-th on, packed together when they are asked for."""

    __slots__ = ("_prepared", "_room")

    def __init__(self, prepared: Prepared, room: int) -> None:
        self._prepared, self._room = prepared, room

    def __getitem__(self, start: int) -> bytes:
        return self._prepared.body(start, self._room)[2]


class _Places(list[bytes]):
    """Where replies lie, each a PLACE; keeps their memory alive."""

    __slots__ = ("_block",)

    def __init__(self, block: bytes) -> None:
        super().__init__()
        self._block = block


@lru_cache(maxsize=1024)
def _headers(flags: int, answers: int, authority: int, additional: int) -> Headers:
    """Octets 2 to 12 of replies: one object for all names alike (0.3 KB a name saved)."""
    plain, plain_rd, edns, edns_rd = (
        message.HEADER.pack(0, flags | rd, 1, answers, authority, additional + opt)[2:]
        for opt in (0, 1)
        for rd in (0, message.RD)
    )
    return plain, plain_rd, edns, edns_rd


def _alike(prepared: Prepared, room: int) -> bool:
    """Whether every rotation has the same counts: all of it fits, or what is cut is cut alike."""
    if sum(map(len, chain(prepared.answers, prepared.authority, prepared.extra))) <= room:
        return True
    return len(set(map(len, prepared.answers))) <= 1 and len(set(map(len, prepared.extra))) <= 1
