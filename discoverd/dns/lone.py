"""Datagrams that come alone or few together, as most do at the usual rates, answered from what is kept.

All that it takes stands in one function, whose names are bound beforehand: where questions come every now
and then, code and data have left the processor's caches, and what is looked up and called on the way
takes as long as the work itself (0.45 of Python's part of the general way for one datagram).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from discoverd.dns.mmsg import PLACE, WHOLE
from discoverd.dns.observer import clock
from discoverd.dns.store import HOLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.mmsg import Batch
    from discoverd.dns.observer import Times


def answering(batch: Batch, fastpath: Fastpath, times: Times | None) -> Callable[[], bool | None]:
    """What answers the first message of a batch of one: True where the reply was sent, False where the kernel
    did not take it, None where nothing is kept for it. ``times`` is told how long it took.
    """
    exact, counts, unpack = fastpath.exact, fastpath.hits.counts, PLACE.unpack
    marks, received, key, send = batch.marks, batch.received, batch.few_keys[0], batch.send_first
    bases, sizes, addresses = batch.bases, batch.sizes, batch.addresses
    six = batch.few_askers[0] if batch.few_askers else None

    def answer() -> bool | None:
        began = clock()
        marks[0] = received[0]
        place = next(exact[addresses[0] if six is None else six.tobytes()][key.tobytes()])
        if not place:
            return None
        bases[0], sizes[0], number = unpack(place)
        if batch.parts != WHOLE:
            batch.use(WHOLE)
        counts[number] += 1
        sent = send() == 1
        if times is not None:
            times.add(clock() - began)
        return sent

    return answer


def placing(batch: Batch, fastpath: Fastpath) -> Callable[[int], bool]:
    """What finds the replies to up to FEW messages, where all of them are kept: says whether they are, and
    tells the batch where they lie.
    """
    exact, counts, unpack = fastpath.exact, fastpath.hits.counts, PLACE.unpack
    marks, received, keys = batch.marks, batch.received, batch.few_keys
    bases, sizes, addresses, askers = batch.bases, batch.sizes, batch.addresses, batch.few_askers

    def place(count: int) -> bool:
        rings = []
        for i in range(count):
            marks[i] = received[i]
            ring = exact[askers[i].tobytes() if askers else addresses[i]][keys[i].tobytes()]
            if ring is HOLES:  # and none of the others has turned yet
                return False
            rings.append(ring)
        for i, ring in enumerate(rings):
            bases[i], sizes[i], number = unpack(next(ring))
            counts[number] += 1
        if batch.parts != WHOLE:
            batch.use(WHOLE)
        return True

    return place
