"""A batch of queries is looked up in what is kept: level by level, each a few passes in C over all of them.

Datagram by datagram the same work takes twice as long, because then the processor waits for the memory
of one ring before it begins to look for the next. The levels, each for what the others have not:

- *exact*: the whole query, as most askers send it most of the time;
- *denied*: whether the name exists, and if not, everything of the query but the name: the kernel puts the
  reply together around the question as it was asked;
- *folded*: the query in lower case, for the same;
- *cookies*: the query up to the cookie at its end, and the cookie; the same with the cookie to answer with.

The level that found nearly all of the last batch is the first in the next one: what comes in a flood need
not be looked up in vain before.
"""

from __future__ import annotations

from functools import partial
from operator import add, getitem
from typing import TYPE_CHECKING, Final, TypeVar

from discoverd.dns.cookies import CLIENT_SIZE, WHOLE_SIZE
from discoverd.dns.mmsg import ID_SIZE, KEYED, NAME_SLOT, NO_REST, PLACE
from discoverd.dns.store import HOLE, NOTHING, Places, each_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.mmsg import Batch
    from discoverd.dns.store import Store

    #: What is known of an asker: the store, and the address as text.
    Known = tuple[Store, str]
    #: Looks for the replies to some of the messages; returns which of them still have none.
    Level = Callable[[Sequence[int]], Sequence[int]]

V = TypeVar("V")

#: Octets of the longest message that is kept.
KEYED_MOST: Final = KEYED + ID_SIZE
#: The share of a batch that a level must have found to be the first.
MOSTLY: Final = 0.75


class Levels:
    """The levels for the batches of one socket, and what they have found for the last one."""

    def __init__(self, fastpath: Fastpath, batch: Batch, *, six: bool) -> None:
        """``six`` says that askers have IPv6 addresses."""
        self._fastpath, self._batch, self._six = fastpath, batch, six
        cookies = [partial(self._with_cookie, size) for size in (CLIENT_SIZE, WHOLE_SIZE)]
        self._usual: Level = self._exact
        self._levels: list[Level] = [self._usual, self._denied, self._folded, *cookies]
        #: The keys of the last batch, the octets of each message, and where each reply lies.
        self.keys: Sequence[bytes] = ()
        self.lengths: list[int] = []
        self.replies: list[bytes] = []
        #: Who asked, as in a sockaddr, and what is known of them: one for all, or one for each.
        self.askers: Sequence[int | bytes] = ()
        self.known: Sequence[Known | None] = ()
        self._in_pieces = 0

    def take(self, count: int) -> Sequence[int]:
        """Look for replies to the first so many messages of the batch; returns which of them have none."""
        batch = self._batch
        self.keys, self._in_pieces = batch.keys(count), 0
        # one lookup of the asker does for all of them, which saves a fifth
        self.askers = self._read_askers(1 if batch.one_asker(count) else count)
        first = self._levels[0]
        holes: Sequence[int] = range(count)
        if first is self._usual:
            self.replies = replies = _places(each_of(self._fastpath.exact, self.askers), self.keys)
            if all(replies):
                return ()
            holes = [i for i, place in enumerate(replies) if not place]
        else:
            self.replies = [HOLE] * count
        self.lengths = batch.lengths[:count].tolist()
        self.known = [self._fastpath.placed.get(asker) for asker in self.askers]
        best, most = first, count - len(holes)
        for level in self._levels[first is self._usual :]:
            before = len(holes)
            holes = level(holes)
            if before - len(holes) > most:
                best, most = level, before - len(holes)
            if not holes:
                break
        best = best if most > MOSTLY * count else self._usual
        if best is not first:
            self._levels.remove(best)
            self._levels.insert(0, best)
        return holes

    @property
    def places(self) -> bytes:
        """Where the replies lie, as the batch is to be told."""
        if 0 < self._in_pieces < len(self.replies):
            whole, no_rest = PLACE.size, NO_REST
            return b"".join([place + no_rest if len(place) == whole else place for place in self.replies])
        return b"".join(self.replies)

    def forget(self) -> None:
        """Let go of the last batch while its memory is still in the processor's caches."""
        self.keys, self.replies = (), []

    def _read_askers(self, count: int) -> list[int] | list[bytes]:
        if not self._six:
            return self._batch.addresses[:count].tolist()
        raw = bytes(self._batch.sockaddrs[: NAME_SLOT * count])
        return [raw[at : at + 16] for at in range(8, NAME_SLOT * count, NAME_SLOT)]

    def _exact(self, holes: Sequence[int]) -> Sequence[int]:
        tables = each_of(self._fastpath.exact, some(self.askers, holes))
        return self._put(holes, _places(tables, some(self.keys, holes)))

    def _denied(self, holes: Sequence[int]) -> Sequence[int]:
        left = self._put(holes, self._fastpath.deny(some(self.keys, holes), some(self.known, holes)))
        self._in_pieces += len(holes) - len(left)
        return left

    def _folded(self, holes: Sequence[int]) -> Sequence[int]:
        keys = some(self.keys, holes)
        lower = tuple(map(bytes.lower, keys))
        if lower == keys:
            return holes
        tables = [each[0].folded if each else NOTHING for each in some(self.known, holes)]
        left = self._put(holes, _places(tables, lower))
        self._in_pieces += len(holes) - len(left)
        return left

    def _with_cookie(self, size: int, holes: Sequence[int]) -> Sequence[int]:
        keys, lengths = some(self.keys, holes), some(self.lengths, holes)
        behind = size + ID_SIZE
        heads = [key[: length - behind] for key, length in zip(keys, lengths, strict=True)]
        tables = [each[0].cookied if each else NOTHING for each in some(self.known, holes)]
        left = self._put(holes, _places(tables, heads))
        if len(left) == len(holes):
            return left
        found = holes if not left else [i for i in holes if self.replies[i]]
        keys, lengths = some(self.keys, found), some(self.lengths, found)
        cookies = [key[length - behind : length - ID_SIZE] for key, length in zip(keys, lengths, strict=True)]
        rests = self._batch.put_ends(self._fastpath.answer_cookies(cookies, some(self.known, found)))
        self._put(found, list(map(add, some(self.replies, found), rests)))
        self._in_pieces += len(found)
        return left

    def _put(self, holes: Sequence[int], places: list[bytes]) -> Sequence[int]:
        """Say where the replies to some messages lie; returns those that still have none."""
        replies = self.replies
        if len(holes) == len(replies):
            self.replies = places
        else:
            for i, place in zip(holes, places, strict=True):
                replies[i] = place
        return () if all(places) else [i for i, place in zip(holes, places, strict=True) if not place]


def some(held: Sequence[V], wanted: Sequence[int]) -> Sequence[V]:
    """Those of a batch that are wanted; one that stands for all does for them as well."""
    return held if len(held) in (1, len(wanted)) else tuple([held[i] for i in wanted])


def spread(held: Sequence[V], wanted: Sequence[int]) -> Sequence[V]:
    """The same, as many of them as are wanted."""
    found = some(held, wanted)
    return found if len(found) == len(wanted) else [*found] * len(wanted)


def _places(tables: Sequence[Places], keys: Sequence[bytes]) -> list[bytes]:
    """The next place of each key in its table, or in the one for all."""
    if len(tables) == 1:
        return list(map(next, each_of(tables[0], keys)))
    return list(map(next, map(getitem, tables, keys)))
