"""What others have answered, for as long as they said, and longer while they are out of reach.

RFC 2308 (negative answers), RFC 8767 (stale ones), RFC 9520 (failures). What is kept is not known
here but for how long and how large it is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

#: Seconds for which an answer is kept beyond its time (RFC 8767 section 5: one to three days).
STALE_SECONDS: Final = 86_400.0
#: Seconds for which nobody is asked again after nobody answered (RFC 9520 section 3.2, RFC 8767 section 5).
FAILURE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 30.0
#: An entry that was used so often is fetched anew in the last tenth of its time, unless that is too
#: short to be worth it (seconds).
POPULAR: Final = 3
PREFETCH_SHARE: Final = 0.1
PREFETCH_LEAST: Final = 10.0
#: Octets that an entry takes beyond what is kept.
OVERHEAD: Final = 400


class Entry(Generic[T]):
    """``value`` is None for a failure. Times are the cache's clock's; ``hits`` count from ``stored`` on."""

    __slots__ = ("expires", "hits", "key", "refreshing", "retry_at", "size", "stored", "value")

    def __init__(self, key: bytes, value: T | None, stored: float, lifetime: float, size: int) -> None:
        self.key, self.value, self.stored, self.expires, self.size = (
            key,
            value,
            stored,
            stored + lifetime,
            size,
        )
        self.hits = 0
        self.refreshing = False
        #: When to ask again after a failure, where this is stale.
        self.retry_at = 0.0

    def wants_refresh(self, now: float) -> bool:
        """Whether it is worth being fetched anew before it ends."""
        lifetime = self.expires - self.stored
        return (
            not self.refreshing
            and self.hits >= POPULAR
            and lifetime >= PREFETCH_LEAST
            and self.expires - now <= lifetime * PREFETCH_SHARE
        )


class Cache(Generic[T]):
    """Bounded in entries and in octets; what was used longest ago goes first.

    Keys begin with the question in wire format, in lower case, and end with octets that tell its
    variants apart (``variant`` of them).
    """

    def __init__(
        self,
        entries_most: int,
        octets_most: int,
        *,
        variant: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.entries_most, self.octets_most, self.clock, self._variant = (
            entries_most,
            octets_most,
            clock,
            variant,
        )
        self._entries: OrderedDict[bytes, Entry[T]] = OrderedDict()
        self.octets = 0
        self.hits = self.misses = self.stale = self.evicted = self.prefetched = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry[T] | None:
        """What is kept, fresh or not; it counts as used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self.clock() >= entry.expires + (STALE_SECONDS if entry.value is not None else 0.0):
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def peek(self, key: bytes) -> Entry[T] | None:
        """The same without it counting as used."""
        return self._entries.get(key)

    @property
    def held(self) -> Mapping[bytes, Entry[T]]:
        """All of it, for many looks at once; none counts as use."""
        return self._entries

    def put(self, key: bytes, value: T, lifetime: float, size: int) -> None:
        """Keep for so many seconds; ``size`` is in octets."""
        self._add(Entry(key, value, self.clock(), lifetime, size + len(key) + OVERHEAD))

    def failed(self, key: bytes) -> None:
        """Nobody has answered: what is kept stays, and nobody is asked again for a while."""
        old, now = self._entries.get(key), self.clock()
        if old is not None and old.value is not None:
            old.refreshing = False
            old.retry_at = now + RETRY_SECONDS
        else:
            self._add(Entry(key, None, now, FAILURE_SECONDS, len(key) + OVERHEAD))

    def bound(self, entries_most: int, octets_most: int) -> None:
        """Hold no more than that from now on."""
        self.entries_most, self.octets_most = entries_most, octets_most
        self._shrink()

    def flush(self, name: bytes | None = None) -> int:
        """Forget a name and all below it (wire format, lower case), without one everything.

        Returns how much that was.
        """
        if name is None:
            count = len(self._entries)
            self._entries.clear()
            self.octets = 0
            return count
        found = [key for key in self._entries if is_below(key[: len(key) - 4 - self._variant], name)]
        for key in found:
            self._remove(key)
        return len(found)

    def _add(self, entry: Entry[T]) -> None:
        self._remove(entry.key)
        if not self.entries_most:
            return
        self._entries[entry.key] = entry
        self.octets += entry.size
        self._shrink()

    def _shrink(self) -> None:
        while self._entries and (len(self._entries) > self.entries_most or self.octets > self.octets_most):
            self._remove(next(iter(self._entries)))
            self.evicted += 1

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= entry.size


def is_below(name: bytes, zone: bytes) -> bool:
    """Whether a name in wire format is a zone's or below it, label by label."""
    while len(name) > len(zone):
        name = name[1 + name[0] :]
    return name == zone
