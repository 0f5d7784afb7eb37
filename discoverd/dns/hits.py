"""Counts prebuilt replies as they are sent, without a line of Python for each of them.

All rings of one kind (type, rcode, view) take an item each time from one iterator that they share, and
which knows how many it has left: 4 ns a reply.
"""

from __future__ import annotations

from itertools import compress, repeat
from operator import length_hint
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: More than will ever be sent.
MOST: Final = 1 << 62
#: Types that are told apart; what else is asked is counted together.
TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
    43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
OTHER: Final = 0

#: Type (of TYPES, or OTHER), rcode, and the kind of view.
Kind = tuple[int, int, str]


class ByType(dict[bytes, "Iterator[bool]"]):
    """By type in wire format, where each reply takes an item; what is not in TYPES shares one."""

    def __init__(self, by_type: dict[int, Iterator[bool]]) -> None:
        super().__init__((number.to_bytes(2, "big"), items) for number, items in by_type.items())
        self._other = by_type[OTHER]

    def __missing__(self, _key: bytes) -> Iterator[bool]:
        return self._other


class Hits:
    """The counters of one fast path."""

    def __init__(self) -> None:
        self._items: dict[Kind, Iterator[bool]] = {}
        self._by_type: dict[tuple[int, str], ByType] = {}

    def counted(self, replies: Iterator[T], qtype: int, rcode: int, place: str) -> Iterator[T]:
        """The same replies, each of which counts."""
        return compress(replies, self._items_of(qtype if qtype in TYPES else OTHER, rcode, place))

    def of(self, rcode: int, place: str) -> ByType:
        """What counts replies to views of one kind by their type; they share it."""
        made = self._by_type.get((rcode, place))
        if made is None:
            items = {number: self._items_of(number, rcode, place) for number in (OTHER, *TYPES)}
            made = self._by_type[rcode, place] = ByType(items)
        return made

    def read(self) -> dict[Kind, int]:
        """How many were sent of each kind."""
        return {kind: sent for kind, items in self._items.items() if (sent := MOST - length_hint(items))}

    def _items_of(self, qtype: int, rcode: int, place: str) -> Iterator[bool]:
        return self._items.setdefault((qtype, rcode, place), repeat(True, MOST))
