"""Prebuilt replies for repeated questions: two dict lookups instead of parsing and packing.

A *ring* gives out the rotations of one answer in turn. Rings are kept by question (lower-cased
wire format) in a *store*, one store for each view. A registry change drops just the rings that
depend on the names it touched; a global generation counter was measured to raise p99 by a
factor of six to twenty under a thousand changes a second.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from discoverd.dns import message
from discoverd.dns.message import HEADER_SIZE, OPT_SIZE
from discoverd.resolver.outcome import AAAA, ANY, NS, PTR, SOA, SRV, TXT, A

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from discoverd.dns.wire import Prepared
    from discoverd.model import IPAddress
    from discoverd.views import View

#: Types whose answers are kept; a flood of other types must not push them out. 65 is HTTPS, which
#: browsers ask beside every A, 15 MX.
KEPT_TYPES = frozenset({A, AAAA, SRV, TXT, PTR, NS, SOA, ANY, 15, 65})
#: Questions kept in one view; some 700 bytes each.
STORE_MOST = 200_000
#: Askers whose view is remembered.
ASKERS_MOST = 65_536
#: Rotations built beforehand; of larger sets each is built as it is asked for.
ROTATIONS_MOST = 64

#: (reply headers by form, the next rotation's records, octets of the whole reply without OPT)
Ring = tuple[tuple[bytes, bytes, bytes, bytes], "Callable[[], bytes]", int]

#: Octets 2 to 12 of a standard query (flags and counts) to its form: RD is 1, an OPT record is 2.
#: AD and CD may be set; neither is echoed.
FORMS: dict[bytes, int] = {
    message.HEADER.pack(0, rd * message.RD | bits, 1, 0, 0, opt)[2:]: rd + 2 * opt
    for rd in (0, 1)
    for opt in (0, 1)
    for bits in (0, 0x10, 0x20, 0x30)
}


class Store:
    """The rings of one view, and the packed records behind them for what no ring fits."""

    __slots__ = ("may_recurse", "prepared", "rings", "view")

    def __init__(self, view: View, *, may_recurse: bool) -> None:
        self.view, self.may_recurse = view, may_recurse
        self.rings: dict[bytes, Ring] = {}
        self.prepared: dict[bytes, Prepared] = {}


class Fastpath:
    """The stores of all views and which names their contents rest on."""

    def __init__(self, udp_size: int) -> None:
        self.udp_size = udp_size
        #: An asker's address as text to its store.
        self.askers: dict[str, Store] = {}
        self._stores: dict[tuple[View, bool], Store] = {}
        self._dependents: defaultdict[str, set[tuple[Store, bytes]]] = defaultdict(set)
        #: The OPT records of queries to (the OPT to answer with, the asker's size limit).
        self.opts: dict[bytes, tuple[bytes, int]] = {}

    def store(self, view: View, *, may_recurse: bool) -> Store:
        key = (view, may_recurse)
        store = self._stores.get(key)
        if store is None:
            store = self._stores[key] = Store(view, may_recurse=may_recurse)
        return store

    def remember_asker(self, address: str, store: Store) -> None:
        if len(self.askers) >= ASKERS_MOST:
            self.askers.clear()
        self.askers[address] = store

    def learn(self, store: Store, key: bytes, prepared: Prepared, *, authoritative: bool = True) -> None:
        """Keep a reply for the next time its question is asked, until a name it depends on changes."""
        qtype = int.from_bytes(key[-4:-2], "big")
        denied = prepared.rcode == message.NXDOMAIN
        if denied or not prepared.depends or qtype not in KEPT_TYPES or len(store.prepared) >= STORE_MOST:
            return
        store.prepared[key] = prepared
        for name in prepared.depends:
            self._dependents[name].add((store, key))
        room = self.udp_size - HEADER_SIZE - len(key) - OPT_SIZE
        if _alike(prepared, room):
            store.rings[key] = _ring(store, key, prepared, room, message.AA if authoritative else 0)

    def drop(self, names: Iterable[str]) -> None:
        """Forget what rests on these names."""
        for name in names:
            for store, key in self._dependents.pop(name, ()):
                store.rings.pop(key, None)
                store.prepared.pop(key, None)

    def drop_addresses(self, addresses: Iterable[IPAddress]) -> None:
        """Forget whose addresses these were as askers, and their reverse names."""
        for address in addresses:
            self.askers.pop(str(address), None)
            self.drop((address.reverse_pointer,))

    def clear(self) -> None:
        """Forget everything: networks, views or the state of a source changed."""
        self.askers.clear()
        self._stores.clear()
        self._dependents.clear()


def _ring(store: Store, key: bytes, prepared: Prepared, room: int, flags: int) -> Ring:
    tc, (answers, authority, additional), first = prepared.body(0, room)
    flags |= message.QR | tc | prepared.rcode | (message.RA if store.may_recurse else 0)
    plain, plain_rd, edns, edns_rd = (
        message.HEADER.pack(0, flags | rd, 1, answers, authority, additional + opt)[2:]
        for opt in (0, 1)
        for rd in (0, message.RD)
    )

    def rotation(start: int) -> bytes:
        return prepared.body(start, room)[2]

    count = len(prepared.answers)
    tails: Callable[[int], bytes] = rotation
    if count <= ROTATIONS_MOST:
        tails = [rotation(start) for start in range(max(1, count))].__getitem__
    size = HEADER_SIZE + len(key) + len(first)
    return (plain, plain_rd, edns, edns_rd), map(tails, prepared.starts).__next__, size


def _alike(prepared: Prepared, room: int) -> bool:
    """Whether every rotation has the same counts: all of it fits, or what is cut is cut alike."""
    if prepared.size() + sum(map(len, prepared.extra)) <= room:
        return True
    return len({len(r) for r in prepared.answers}) <= 1 and len({len(r) for r in prepared.extra}) <= 1
