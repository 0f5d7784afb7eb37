"""Answers of others in the fast path: whole replies to exact queries, their TTLs counted down each second.

What was not asked for a second goes, so there is never more than what is in use; the cache has it all.
A TTL that is shown is at most a second too low, never too high.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from discoverd.dns.store import EXACT_SIZE
from discoverd.naming import ancestors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.foreign import Foreign
    from discoverd.dns.store import Store, Uses
    from discoverd.dns.upstreamed import Upstreamed
    from discoverd.resolver.cache import Cache, Entry

TICK_SECONDS: Final = 1.0
#: Seconds that an answer must still have: the last ones are left to the cache, which fetches it anew.
LEAST_SECONDS: Final = 2.0
#: Replies at once.
KEPT_MOST: Final = 20_000
#: Replies that are renewed before other work has its turn: under a millisecond.
SLICE: Final = 100


class _Reply:
    """One query that is answered so, behind its id, and what its reply is made of."""

    __slots__ = ("foreign", "key", "names", "query", "question", "store", "uses")

    def __init__(self, foreign: Foreign, store: Store) -> None:
        self.foreign, self.store, self.query = foreign, store, foreign.octets
        self.key, self.question = foreign.key, foreign.query.key
        self.names = names_of(foreign.query.question.name)
        self.uses: Uses | None = None


class Kept:
    """What of the cache stands in the fast path. ``refresh`` fetches an entry anew."""

    def __init__(
        self,
        fastpath: Fastpath,
        cache: Cache[Upstreamed],
        refresh: Callable[[Foreign, Entry[Upstreamed]], None],
    ) -> None:
        self._fastpath, self._cache, self._refresh = fastpath, cache, refresh
        self._replies: dict[tuple[Store, bytes], _Reply] = {}
        self._ticking = False
        #: Replies given, of those that are not counted any more.
        self.given = 0

    def __len__(self) -> int:
        return len(self._replies)

    def offer(self, foreign: Foreign, entry: Entry[Upstreamed], reply: bytes) -> None:
        """Keep the reply that an asker has just been given out of the cache, where that is possible."""
        store = foreign.store
        if store is None or len(foreign.octets) > EXACT_SIZE or len(self._replies) >= KEPT_MOST:
            return
        if len(reply) > foreign.udp_size or entry.expires - self._cache.clock() < LEAST_SECONDS:
            return
        kept = self._replies.setdefault((store, foreign.octets), _Reply(foreign, store))
        self._keep(kept, reply)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _keep(self, kept: _Reply, reply: bytes) -> None:
        kept.uses = self._fastpath.keep(kept.store, kept.question, kept.query, reply[2:], kept.names)

    def forget(self) -> None:
        """Nothing of it is right any more."""
        for kept in list(self._replies.values()):
            self._drop(kept)

    def _drop(self, kept: _Reply) -> None:
        self._replies.pop((kept.store, kept.query), None)
        self._fastpath.unkeep(kept.store, kept.question, kept.names)

    def _tick(self) -> None:
        self._some(iter(list(self._replies.values())))

    def _some(self, left: Iterator[_Reply]) -> None:
        """Renew some, and go on once other work has had its turn."""
        loop = asyncio.get_running_loop()
        for number, kept in enumerate(left):
            self._renew(kept)
            if number >= SLICE:
                loop.call_soon(self._some, left)
                return
        self._ticking = bool(self._replies)
        if self._ticking:
            loop.call_later(TICK_SECONDS, self._tick)

    def _renew(self, kept: _Reply) -> None:
        uses = kept.uses.count if kept.uses is not None else 0
        self.given += uses
        if not kept.store.keeps(kept.query):  # the registry has a say in this name now
            self._replies.pop((kept.store, kept.query), None)
            return
        entry, now = self._cache.get(kept.key) if uses else None, self._cache.clock()
        if entry is None or entry.value is None or entry.expires - now < LEAST_SECONDS:
            self._drop(kept)
            if entry is None:
                return
        entry.hits += uses
        if entry.wants_refresh(now):
            self._refresh(kept.foreign, entry)
        if entry.value is not None and entry.expires - now >= LEAST_SECONDS:
            # the second that it will be given for is over at the end
            records = entry.value.aged(int(now - entry.stored) + 1)
            self._keep(kept, kept.foreign.answer(entry.value, records, kept=True))


def names_of(name: str) -> tuple[str, ...]:
    """Names of the registry whose change may make a name ours: itself, and those it would be below."""
    return (name,) if name.endswith(".arpa") else (name, *ancestors(name))
