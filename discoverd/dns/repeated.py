"""Denials of names that are asked for again and again: whole replies to exact queries.

A search list has every name that is elsewhere asked for below a domain of ours first, each time. One
denial in so many is looked at, and kept where it was seen before: what is asked often soon is, and a flood
of names that nobody asks for twice is kept out. None outlives a change: each says what the serial is
(RFC 2308 section 3).
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Final

from discoverd.dns import mmsg
from discoverd.dns.mmsg import PLACE, REST
from discoverd.dns.store import COUNTS, EXACT_SIZE, HOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoverd.dns.store import Store

    #: Octets of a reply from behind its id on, without the question, to where they lie.
    Blocks = dict[bytes, bytes]

#: Denials that are kept, and queries that are known to have been seen. Some 500 and 200 octets each; all
#: are let go of within a change, at 0.5 µs each.
MOST: Final = 2048
#: One denial in so many is looked at, which takes 0.15 µs, and where it is kept 1.5.
EVERY: Final = 4


class Repeated:
    """The denials that are kept, in all stores."""

    def __init__(self, retired: list[object]) -> None:
        """``retired`` gets the octets that are no longer given out, but may be about to be sent."""
        self._retired = retired
        self._kept: dict[tuple[Store, bytes], bytes] = {}
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def see(
        self,
        keys: Sequence[bytes],
        places: Sequence[bytes],
        known: Sequence[tuple[Store, str] | None],
        blocks: Blocks,
    ) -> None:
        """Keep some of these denials: keys of queries, the PLACE and REST of each, holes for what is not
        denied; ``known`` is of each asker, or of the one who asked all.
        """
        # from anywhere on: names that are asked in turn would else be passed over each time
        for i in range(_chance(), len(keys), EVERY):
            key, place = keys[i], places[i]
            who = known[i if len(known) > 1 else 0]
            if place == HOLE or who is None or not self._again(who[0], key):
                continue
            number, asked = PLACE.unpack_from(place)[2], REST.unpack_from(place, PLACE.size)[0]
            block = blocks[place]
            self._keep(who[0], key, block[:COUNTS] + key[COUNTS : COUNTS + asked] + block[COUNTS:], number)

    def offer(self, store: Store, query: bytes, reply: bytes, number: int) -> None:
        """The same for one reply, both without their ids."""
        if _chance() == 0 and len(query) <= EXACT_SIZE and self._again(store, key := mmsg.key(query)):
            self._keep(store, key, reply, number)

    def _again(self, store: Store, key: bytes) -> bool:
        """Whether it was seen before, and is not kept."""
        if key in self._seen:
            return (store, key) not in self._kept
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen.add(key)
        return False

    def _keep(self, store: Store, key: bytes, reply: bytes, number: int) -> None:
        if len(self._kept) >= MOST:
            self.forget()
        self._kept[store, key] = store.keep_whole(key, reply, number)

    def forget(self) -> None:
        """None of them is right any more."""
        if not self._kept:
            return
        for store, key in self._kept:
            store.exact.pop(key, None)
        self._retired.append(self._kept)
        self._kept = {}


def _chance() -> int:
    """Less than EVERY."""
    return int(random() * EVERY)  # noqa: S311 - for sampling
