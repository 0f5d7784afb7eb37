"""Datagrams that come alone or few together, as most do at the usual rates, answered from what is kept.

All that it takes stands in one function, whose names are bound beforehand: where questions come every now
and then, code and data have left the processor's caches, and what is looked up and called on the way
takes as long as the work itself (0.45 of Python's part of the general way for one datagram).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from discoverd.dns.mmsg import EMPTY_SLOT, FEW, PLACE, WHOLE
from discoverd.dns.observer import clock
from discoverd.dns.store import HOLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.mmsg import Batch
    from discoverd.dns.observer import Times


#: Nanoseconds between datagrams that come quickly, and how many of those earn a wait for the next one. A wait
#: in vain takes up to two ticks of the kernel, 8 ms at 250 Hz: what these took is several times that.
QUICK: Final = 500_000
QUICK_ONES: Final = 512
#: Nanoseconds for which one after the other is waited for before the loop may look for other events.
LINGER: Final = 1_000_000
#: Instead of a number of messages: nothing came any more.
SILENCE: Final = -1


class Pace:
    """How datagrams follow each other that come one by one."""

    def __init__(self) -> None:
        self._last = self._earned = 0

    def is_quick(self, now: int) -> bool:
        """Whether to wait for the next one; one was just answered, on :func:`clock`."""
        quick = now - self._last < QUICK
        self._last = now
        self._earned += quick
        return quick and self._earned > QUICK_ONES

    def waited(self, now: int, *, silent: bool) -> None:
        """The next ones were waited for, until now; ``silent`` if none came in the end."""
        self._last = now
        if silent:
            self._earned = 0


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


def lingering(
    batch: Batch, answer: Callable[[], bool | None], place_few: Callable[[int], bool], times: Times | None
) -> Callable[[int], tuple[int, int, int]]:
    """What waits in the kernel for one message after the other and answers each, while they are few and
    kept, until a time on :func:`clock`. Returns how many it has answered, how many of these replies the
    kernel took, and how many messages have come that are still to be answered, or SILENCE. ``answer`` and
    ``place_few`` are what :func:`answering` and :func:`placing` return.

    To be told by a selector that there is something takes as long as to read it (0.8 of all that a question
    takes at 20,000 a second).
    """
    slot, wait = batch.first_slot, batch.wait

    def linger(end: int) -> tuple[int, int, int]:
        answered = sent = began = 0
        while began < end:
            slot[:] = EMPTY_SLOT
            taken = wait()
            began = clock()
            if taken == 1:
                took = answer()
                if took is None:
                    return answered, sent, 1
                sent += took
            else:
                # some that came together, as after a moment in which the machine did something else
                if taken <= 0:
                    batch.taken = 0
                    return answered, sent, SILENCE
                batch.taken = taken
                if taken > FEW or not place_few(taken):
                    return answered, sent, taken
                sent += taken - batch.send(0, taken)
                batch.make_room()
                if times is not None:
                    times.add(clock() - began, taken)
            answered += taken
        return answered, sent, 0

    return linger
