"""What was answered, to whom and how fast: counted, and handed to the query log where there is one.

Answers of the fast path are counted by kind (:mod:`.hits`) and timed by the batch, all others one
by one: some 2 of the 100 µs and more that each of them takes.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from discoverd.dns.hits import OTHER, TYPES
from discoverd.dns.message import HEADER_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.outbox import Late
    from discoverd.dns.store import Store

UDP, TCP, HTTPS = "udp", "tcp", "https"
#: Answered from prebuilt replies, by the resolver, or by somebody else who had to be asked.
FAST, SLOW, FORWARDED = "fast", "slow", "forwarded"
#: Upper bounds of the buckets that answering takes, in nanoseconds.
BOUNDS: Final = tuple(
    int(step * 10**power)
    for power, steps in ((3, (5,)), *((p, (1, 2.5, 5)) for p in range(4, 10)), (10, (1,)))
    for step in steps
)

#: Protocol, type (of TYPES, or OTHER), rcode, kind of view.
Answered = tuple[str, int, int, str]
#: Unix time in ns, ns that it took, protocol, the asker (a sockaddr, or address and port), the address
#: and port that was asked where known, the reply, True where somebody else had to be asked.
Entry = tuple[int, int, str, "bytes | tuple[str, int]", "tuple[str, int] | None", bytes, bool]

clock = time.perf_counter_ns


class Log(Protocol):
    """A query log. Both calls are made on the event loop, and neither may wait for anything."""

    def pick(self, count: int) -> range:
        """Which of the next so many answers are to be logged."""

    def take(self, entries: Sequence[Entry]) -> None:
        """Log them, or count them as dropped."""

    def counts(self) -> tuple[int, int]:
        """How many were logged, and how many dropped."""


@dataclass(frozen=True)
class Observed:
    """What was counted up to now. Those of several processes add up."""

    answers: Mapping[Answered, int] = field(default_factory=dict)
    #: By path: how many answers took at most BOUNDS[i], the last more than all of these; and ns in all.
    durations: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    #: Messages that no answer is due to.
    no_query: int = 0
    #: Of the query log: entries written, and dropped.
    logged: tuple[int, int] = (0, 0)

    def __add__(self, other: Observed) -> Observed:
        durations = {
            path: _added(self.durations.get(path), other.durations.get(path))
            for path in self.durations.keys() | other.durations.keys()
        }
        logged = self.logged[0] + other.logged[0], self.logged[1] + other.logged[1]
        answers = Counter(self.answers)
        answers.update(other.answers)
        return Observed(dict(answers), durations, self.no_query + other.no_query, logged)


class Times:
    """How long answers took: a histogram."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets, self.total = [0] * (len(BOUNDS) + 1), 0

    def add(self, took: int, count: int = 1) -> None:
        """So many answers that took so many ns each."""
        self.buckets[bisect_left(BOUNDS, took)] += count
        self.total += took * count


class Observer:
    """Sees every answer of one handler, whatever it came by."""

    def __init__(self, fastpath: Fastpath) -> None:
        self._hits = fastpath.hits
        self.log: Log | None = None
        self.times = {path: Times() for path in (FAST, SLOW, FORWARDED)}
        self._answers: Counter[Answered] = Counter()
        self._no_query = 0

    def saw(
        self,
        via: str,
        reply: bytes | None,
        store: Store,
        peer: tuple[str, int],
        began: int,
        *,
        path: str = SLOW,
    ) -> None:
        """One answer, given just now; ``began`` is when work on it did (:data:`clock`)."""
        if reply is None:
            self._no_query += 1
            return
        took = clock() - began
        self.times[path].add(took)
        self._answers[via, *kind_of(reply), store.view.place.name.lower()] += 1
        # datagrams are logged by who sends them: most never come by here
        if self.log is not None and (via != UDP or path == FORWARDED):
            self.note(via, reply, peer, took, forwarded=path == FORWARDED)

    def note(
        self, via: str, reply: bytes, peer: tuple[str, int], took: int = 0, *, forwarded: bool = False
    ) -> None:
        """Log one answer, given just now, where there is a log and its turn."""
        if self.log is not None and self.log.pick(1):
            self.log.take([(time.time_ns() - took, took, via, peer, None, reply, forwarded)])

    def later(self, via: str, store: Store, peer: tuple[str, int], began: int) -> Callable[[bytes], bytes]:
        """For an answer that somebody else has to give: sees it, and gives it back."""

        def seen(reply: bytes) -> bytes:
            self.saw(via, reply, store, peer, began, path=FORWARDED)
            return reply

        return seen

    def saw_forwarded(self, late: Sequence[Late]) -> None:
        """Answers of somebody else to datagrams, sent just now; the peers are sockaddrs."""
        now, times = clock(), self.times[FORWARDED]
        begins = [each[4] for each in late]
        for began in set(begins):  # a batch began at once
            times.add(now - began, begins.count(began))
        self._hits.add([each[3] for each in late])
        if self.log is not None and (picked := self.log.pick(len(late))):
            wall = time.time_ns() - now
            self.log.take(
                [
                    (wall + began, now - began, UDP, peer, None, reply, True)
                    for reply, peer, _, _, began in (late[i] for i in picked)
                ]
            )

    def number(self, store: Store, reply: bytes) -> int:
        """Where a reply is counted."""
        return self._hits.number(*kind_of(reply), store.place)

    def transfer(self, store: Store, qtype: int) -> None:
        """A transfer of a whole domain has begun."""
        self._answers[TCP, qtype, 0, store.view.place.name.lower()] += 1

    def read(self) -> Observed:
        answers = Counter(self._answers)
        for kind, (sent, over_tcp) in self._hits.read().items():
            answers[TCP, *kind] += over_tcp
            answers[UDP, *kind] += sent - over_tcp
        answers = +answers
        durations = {path: (tuple(times.buckets), times.total) for path, times in self.times.items()}
        logged = self.log.counts() if self.log is not None else (0, 0)
        return Observed(dict(answers), durations, self._no_query, logged)


def kind_of(reply: bytes) -> tuple[int, int]:
    """The type that was asked for (OTHER for what is not in TYPES) and the rcode, of a reply of ours."""
    at, size = HEADER_SIZE, len(reply)
    if not reply[5]:
        return OTHER, reply[3] & 15
    while at < size and reply[at]:
        at += 1 + reply[at]
    qtype = int.from_bytes(reply[at + 1 : at + 3], "big")
    rcode = reply[3] & 15
    if reply[6:12] == b"\0\0\0\0\0\1" and at + 11 < size:
        rcode |= reply[at + 10] << 4  # the upper bits, in OPT (RFC 6891 section 6.1.3)
    return qtype if qtype in TYPES else OTHER, rcode


def _added(
    one: tuple[tuple[int, ...], int] | None, other: tuple[tuple[int, ...], int] | None
) -> tuple[tuple[int, ...], int]:
    if one is None or other is None:
        return one or other or ((0,) * (len(BOUNDS) + 1), 0)
    return tuple(a + b for a, b in zip(one[0], other[0], strict=True)), one[1] + other[1]
