"""One name server over time: how fast it answers, whether it does at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from discoverd.resolver.upstreams.query import edns, head
from discoverd.resolver.upstreams.stream import Stream
from discoverd.resolver.upstreams.udp import Ports

if TYPE_CHECKING:
    from discoverd.resolver.upstreams.query import Asked
    from discoverd.resolver.upstreams.upstream import Upstream

log = logging.getLogger("discoverd.forward")

#: Failures in a row from which on a server counts as down: it is then asked last.
DOWN_AFTER: Final = 3
#: Seconds until a server that is down is asked whether it is back, and the longest such wait.
PROBE_FIRST, PROBE_MOST = 1.0, 10.0
#: Share of the last round trip in the smoothed one (RFC 6298 section 2), and what an unused server's
#: shrinks by with every question that another gets, so that it has its turn again.
NEWEST: Final = 1 / 8
FORGIVING: Final = 0.98
#: Seconds for which a server is not asked about a domain that it passes back, and for which the same
#: loop is not told again; domains that are remembered.
LOOP_SECONDS: Final = 30.0
LOOPS_MOST: Final = 1000
#: Seconds to wait for a reply before the next try: four round trips, within these bounds.
PATIENCE_LEAST, PATIENCE_MOST = 0.4, 1.2


class Around(dict[int, tuple[bytes, bytes]]):
    """What stands before and behind a question, by its flags and DO together, in a query without an id."""

    def __init__(self, *records: bytes) -> None:
        super().__init__()
        self._records = records

    def __missing__(self, variant: int) -> tuple[bytes, bytes]:
        flags, record = variant & ~1, self._records[variant & 1]
        made = self[variant] = head(flags, additional=bool(record)), record
        return made


class Server:
    """A name server that is asked. ``mark`` is what its queries carry, and tells it apart from others."""

    def __init__(self, upstream: Upstream, mark: bytes) -> None:
        self.upstream, self.mark = upstream, mark
        #: By whether it knows EDNS.
        self._around = Around(b"", b""), Around(edns(mark, do=False), edns(mark, do=True))
        self.ports, self.stream = Ports(upstream.host, upstream.port), Stream(upstream)
        #: Smoothed round trip in seconds; 0 where it was never asked, so that it is soon.
        self.rtt = 0.0
        self.failures = 0
        self.down = False
        #: Whether it knows EDNS.
        self.edns = True
        #: Domains that it is not asked about until then (loop time): such questions come back here.
        self.loops: dict[str, float] = {}
        self._loop_told = float("-inf")
        self.sent = self.answered = self.failed_count = 0
        self.probe_at, self._probe_wait = 0.0, PROBE_FIRST

    def __str__(self) -> str:
        return str(self.upstream)

    def query(self, asked: Asked) -> bytes:
        """What it is asked, without an id."""
        if asked.hops and self.edns:
            return asked.query(self.mark)
        return self.plain_query(asked.flags, asked.question, asked.do)

    def plain_query(self, flags: int, question: bytes, do: int) -> bytes:
        """The same for a question that came without marks."""
        before, after = self.around[flags | do]
        return before + question + after

    @property
    def around(self) -> Around:
        """What stands before and behind the question in that."""
        return self._around[self.edns]

    def cost(self) -> tuple[bool, float]:
        """Servers are asked in the order of this."""
        return self.down, self.rtt

    def patience(self) -> float:
        """Seconds to wait for its reply."""
        return min(PATIENCE_MOST, max(PATIENCE_LEAST, 4 * self.rtt)) if self.rtt else PATIENCE_MOST

    def passed_over(self) -> None:
        self.rtt *= FORGIVING

    def answers(self, seconds: float, count: int = 1) -> None:
        """It has answered after so many seconds, ``count`` questions at once."""
        self.answered += count
        self.rtt = self.rtt + NEWEST * (seconds - self.rtt) if self.rtt else seconds
        self.failures, self._probe_wait = 0, PROBE_FIRST
        if self.down:
            self.down = False
            log.info("%s answers again", self)

    def fails(self, why: str, now: float) -> None:
        """It has not answered, or not to the point."""
        self.failed_count += 1
        self.failures += 1
        self.rtt = min(2.0, 2 * self.rtt + 0.1)
        if self.failures >= DOWN_AFTER and not self.down:
            self.down = True
            self.probe_at = now + self._probe_wait
            log.warning("%s is down: %s; it is asked last until it answers", self, why)

    def put_off(self, now: float) -> None:
        """It is asked whether it is back; the next time it waits longer."""
        self._probe_wait = min(PROBE_MOST, 2 * self._probe_wait)
        self.probe_at = now + self._probe_wait

    def passes_back(self, name: str, now: float) -> bool:
        return self.loops.get(_domain(name), 0.0) > now

    def loop_found(self, name: str, now: float, *, remember: bool) -> None:
        """What it was asked of this name has come back. With ``remember`` it is not asked about the
        domain for a while.
        """
        if remember:
            if len(self.loops) >= LOOPS_MOST:
                self.loops.clear()
            self.loops[_domain(name)] = now + LOOP_SECONDS
        if now - self._loop_told >= LOOP_SECONDS:
            self._loop_told = now
            log.error(
                "a loop: what is asked of %s (%s) comes back here, and is answered with SERVFAIL. Give"
                " discoverd another upstream, or that server another one than discoverd",
                self,
                name,
            )

    def close(self) -> None:
        self.ports.close()
        self.stream.close()


def _domain(name: str) -> str:
    """The last two labels, for which most set-ups name servers."""
    return ".".join(name.rsplit(".", 2)[-2:])
