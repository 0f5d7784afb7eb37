"""What is kept for one view: packed replies, and the rings that give them out in rotation."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import chain, cycle, repeat
from operator import itemgetter, length_hint
from typing import TYPE_CHECKING, Final, TypeVar

from discoverd.dns import message, mmsg
from discoverd.dns.message import HEADER_SIZE, OPT_SIZE
from discoverd.dns.mmsg import PLACE, REST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from discoverd.dns.hits import Hits
    from discoverd.dns.wire import Prepared
    from discoverd.views import View

K = TypeVar("K")
V = TypeVar("V")

#: Questions kept in one view, and queries kept exactly. Some 1,000 and 600 octets each.
STORE_MOST: Final = 200_000
EXACT_MOST: Final = 100_000
#: Octets of the largest query, id left out, that is kept exactly.
EXACT_SIZE: Final = mmsg.KEYED
#: Rotations that are built beforehand; of larger sets each is built when its turn comes.
ROTATIONS_MOST: Final = 64

#: Octets of the flags and counts of a header, and of what stands behind the name in a question.
COUNTS: Final = HEADER_SIZE - 2
TYPE_AND_CLASS: Final = 4

#: Times that one reply can be given: for ever.
USES_MOST: Final = 1 << 60

#: By form of the query: plain, with RD, with an OPT record, with both.
Headers = tuple[bytes, bytes, bytes, bytes]
#: Reply headers, whose turn it is, the records of every rotation, octets of a whole reply without OPT,
#: and where it is counted.
Ring = tuple[Headers, "Callable[[], int]", "Sequence[bytes] | Rotations", int, int]
#: Where nothing lies: a batch's PLACEs together are shorter for each of these.
HOLE: Final = b""
HOLES: Final = repeat(HOLE)


class Places(dict[bytes, "Iterator[bytes]"]):
    """Queries, as their :func:`mmsg.key`, to where the next reply lies; to a hole for what is not kept."""

    __slots__ = ()
    #: Returns HOLES, without a step of Python: two thirds of the time.
    __missing__ = staticmethod(partial(next, repeat(HOLES)))


class Denied(dict[bytes, bytes]):
    """What stands behind the first label of a query's key to where what denies it lies; else to a hole."""

    __slots__ = ()
    __missing__ = staticmethod(partial(next, HOLES))  # returns HOLE


#: The same by what stands before that label: flags and counts.
DeniedBy = dict[bytes, Denied]

#: For whom nothing is kept.
NOTHING: Final = Places()
NOTHING_DENIED: Final = Denied()
NEVER_DENIED: Final[DeniedBy] = {}


def each_of(held: Mapping[K, V], keys: Sequence[K]) -> Sequence[V]:
    """``held[key]`` for each of the keys, of which there is one at least: 40 ns less each than ``get``."""
    return itemgetter(*keys)(held) if len(keys) > 1 else (held[keys[0]],)


class Store:
    """Replies by question and by query. A query that is kept goes on with the rotation by itself."""

    __slots__ = (
        "_foreign",
        "_hits",
        "_retired",
        "cookied",
        "denials",
        "denied",
        "exact",
        "folded",
        "may_recurse",
        "open",
        "place",
        "prepared",
        "rings",
        "view",
    )

    def __init__(self, view: View, *, may_recurse: bool, hits: Hits, retired: list[object]) -> None:
        """``hits`` is where what is given out from here is counted; ``retired`` gets the octets that are no
        longer given out, but may be about to be sent.
        """
        self.view, self.may_recurse = view, may_recurse
        #: Whether all that is not ours is asked of others; a link may make a name its own asker's alone.
        self.open = may_recurse and not view.links
        self._hits, self._retired, self.place = hits, retired, view.place.name.lower()
        #: What denies a name, by everything of a query's key but its first label (:mod:`.denial`).
        self.denied: DeniedBy = {}
        #: By type in wire format, where names that are denied are counted.
        self.denials = hits.by_type(message.NXDOMAIN, self.place)
        self.exact = Places()
        #: The same by keys in lower case: replies in pieces, with the question as it was asked among them.
        self.folded = Places()
        #: Queries up to a cookie at their end, to replies up to the same.
        self.cookied = Places()
        #: Questions in lower case to their rings.
        self.rings: dict[bytes, Ring] = {}
        #: The same to packed records, for what no ring fits: TCP, small EDNS sizes.
        self.prepared: dict[bytes, Prepared] = {}
        #: Questions about what is not ours to the keys of the queries that replies are kept to.
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

    def keep_exact(self, query: bytes, question: bytes, head: bytes, opt: bytes, turn: int) -> None:
        """Lay out all replies to one query one after the other, ready to be sent from there; whose turn it is
        next is said by ``turn``.
        """
        if len(query) <= EXACT_SIZE:
            self._keep(self.exact, mmsg.key(query), question, turn, (head, opt, 0))

    def keep_cookied(self, query: bytes, question: bytes, head: bytes, opt: bytes, turn: int) -> None:
        """The same for all queries that begin like this and end in a cookie: as far as the cookie, whose size
        is the last that is said before it. A key has to hold all of it.
        """
        if len(query) + query[-1] <= EXACT_SIZE:
            self._keep(self.cookied, query, question, turn, (head, opt, 0))

    def keep_folded(self, query: bytes, question: bytes, header: bytes, opt: bytes, turn: int) -> None:
        """The same for one query in any letter case, its own question to be put in between."""
        key = folded(query, question)
        if key is not None:
            self._keep(self.folded, key, question, turn, (header, opt, len(question)))

    def _keep(
        self, kept: Places, key: bytes, question: bytes, turn: int, pieces: tuple[bytes, bytes, int]
    ) -> None:
        prepared = self.prepared[question]
        tails = prepared.tails
        if tails is None or len(kept) >= EXACT_MOST or key in kept:
            return
        head, opt, asked = pieces
        turn %= len(tails)
        turned = (*tails[turn:], *tails[:turn])
        laid = lay([tail + opt for tail in turned], self.number(question, prepared.rcode), head, asked)
        # A cycle for each query touches half the memory of one that is shared by all forms of a question:
        # a quarter less of Python's part, 0.94 of all that a query takes.
        kept[key] = cycle(laid) if len(laid) > 1 else repeat(laid[0])
        prepared.keys, prepared.laid = (*prepared.keys, key), (*prepared.laid, laid.block)

    def number(self, question: bytes, rcode: int) -> int:
        """Where replies to a lower-case question are counted."""
        return self._hits.by_type(rcode, self.place)[question[-4:-2]]

    def keep_reply(self, query: bytes, question: bytes, reply: bytes) -> Uses:
        """Keep a reply that does not rotate, in place of one that is kept already.

        The query has at most EXACT_SIZE octets.
        """
        key = mmsg.key(query)
        self._foreign.setdefault(question, set()).add(key)
        places, uses = lay([reply], self.number(question, reply[1] & 0xF)), Uses()
        self.exact[key] = map(places.__getitem__, uses.zeros)
        return uses

    def keep_whole(self, key: bytes, reply: bytes, number: int) -> bytes:
        """Give this reply to one query, by its key, for as long as the octets that are returned are held."""
        laid = lay([reply], number)
        self.exact[key] = repeat(laid[0])
        return laid.block

    def keeps(self, query: bytes) -> bool:
        """Whether a reply to exactly this query is kept."""
        return mmsg.key(query) in self.exact

    def drop(self, question: bytes) -> None:
        for key in self._foreign.pop(question, ()):
            self.exact.pop(key, None)
        prepared = self.prepared.pop(question, None)
        if prepared is not None:
            self.rings.pop(question, None)
            for key in prepared.keys:
                for kept in (self.exact, self.folded, self.cookied):
                    kept.pop(key, None)
            if prepared.laid:
                self._retired.append(prepared.laid)


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


class Laid(list[bytes]):
    """Where replies lie: a PLACE each, or a PLACE and a REST. They do for as long as ``block`` is held."""

    __slots__ = ("block",)

    def __init__(self, block: bytes) -> None:
        super().__init__()
        self.block = block


def lay(tails: Sequence[bytes], number: int, head: bytes = b"", question: int = 0) -> Laid:
    """Put replies one after the other: each whole, or, with octets of a question, in pieces: the head they
    share, the question as it was asked, and the end of each.
    """
    if not question:
        tails, head = [head + tail for tail in tails], b""
    block = head + b"".join(tails)
    laid, first = Laid(block), mmsg.address(block)
    at = first + len(head)
    for tail in tails:
        if question:
            laid.append(PLACE.pack(first, len(head), number) + REST.pack(question, at, len(tail)))
        else:
            laid.append(PLACE.pack(at, len(tail), number))
        at += len(tail)
    return laid


def folded(query: bytes, question: bytes) -> bytes | None:
    """The key of a query, here without its id, in lower case; None where it is no safe key.

    It is where nothing but the name has letters: else something that differs in more than letter case
    (a size, a type) could become the same with it.
    """
    if len(query) > EXACT_SIZE:
        return None
    key = mmsg.key(query).lower()
    rest = key[:COUNTS] + key[COUNTS + len(question) - TYPE_AND_CLASS :]
    return key if rest == rest.upper() else None


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
