"""Other people's names: which servers are asked, in which order, for how long, and how often at once.

What a reply means is not known here: whoever asks brings along how it is read. Questions that are the
same are asked once; docs/forwarding.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from discoverd.resolver.upstreams import Server, Upstream
from discoverd.resolver.upstreams.flights import Flights
from discoverd.resolver.upstreams.pending import ALL_SECONDS, NEVER, Pending, fastest_first
from discoverd.resolver.upstreams.probe import Probe
from discoverd.resolver.upstreams.query import HOPS_MOST, MARK_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from discoverd.resolver.upstreams.flights import Flight, Group
    from discoverd.resolver.upstreams.pending import Asker
    from discoverd.resolver.upstreams.query import Asked

__all__ = ["ALL_SECONDS", "Forwarder", "Upstream"]

log = logging.getLogger("discoverd.forward")

#: Different questions under way at once, and askers that wait for them; more than that fail at once
#: instead of queueing.
IN_FLIGHT_MOST: Final = 1000
WAITING_MOST: Final = 4000
#: Seconds between two looks at what is overdue, and between two rounds of housekeeping.
SWEEP_SECONDS: Final = 0.05
TICK_SECONDS: Final = 1.0


class Forwarder:
    """Asks name servers. ``zones`` name servers for a name and all below it; the longest match wins.

    ``identity`` is what other processes of the same server share (6 octets): by it a question that
    comes round is known.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        zones: Mapping[str, Sequence[Upstream]],
        identity: bytes = b"",
    ) -> None:
        self.upstreams, self.zones = tuple(upstreams), {k: tuple(v) for k, v in zones.items()}
        self.identity = identity or secrets.token_bytes(MARK_SIZE - 2)
        each = dict.fromkeys((*self.upstreams, *(s for servers in self.zones.values() for s in servers)))
        self.known = {u: Server(u, self.identity + n.to_bytes(2, "big")) for n, u in enumerate(each)}
        self._default = [self.known[upstream] for upstream in self.upstreams]
        self._zones = {zone: [self.known[u] for u in servers] for zone, servers in self.zones.items()}
        #: What is under way by its key: what needs looking after, and the rest.
        self.in_flight: dict[bytes, Pending] = {}
        self.flights = Flights(self._adopt, self._end)
        self.waiting = 0
        #: Questions beyond the bounds, and those that came round.
        self.rejected = self.loops = 0
        self._sweeping = self._ticking = False
        self._probes: dict[str, Probe] = {}
        self._retired = False
        self._finished: asyncio.Event | None = None

    def servers(self, name: str) -> list[Server]:
        """Whom to ask for a name; nobody where its zone was configured without servers."""
        if self._zones:
            while name:
                if name in self._zones:
                    return self._zones[name]
                _, _, name = name.partition(".")
            if "" in self._zones:
                return self._zones[""]
        return self._default

    def configured(self, name: str) -> bool:
        """Whether a zone was configured for this name or one above it."""
        return any(name == zone or name.endswith("." + zone) for zone in self.zones)

    @property
    def under_way(self) -> int:
        """How many different questions are."""
        return len(self.in_flight) + len(self.flights.under_way)

    def knows(self, key: bytes) -> bool:
        """Whether this is under way."""
        return key in self.flights.under_way or key in self.in_flight

    # -- asking ---------------------------------------------------------------------------

    def ask(
        self, key: bytes, asked: Asked, servers: Sequence[Server], waiter: object, asker: Asker
    ) -> str | Pending:
        """Ask one of ``servers``, or let ``waiter`` wait along with who has asked the same (``key``).

        ``asker`` is told of the end. Returns what is under way, or why nothing is asked.
        """
        self.flights.land(key)
        pending = self.in_flight.get(key)
        if pending is not None:
            if self.waiting >= WAITING_MOST:
                self.rejected += 1
                return f"{self.waiting} askers wait already"
            self._join(pending, waiter)
            return pending
        if not servers:
            return "no upstream server is configured"
        if self.under_way >= IN_FLIGHT_MOST:
            self.rejected += 1
            return f"{self.under_way} questions are under way already"
        pending = self.in_flight[key] = Pending(key, asked, asker, self._end)
        self._join(pending, waiter)
        self._awake()
        pending.begin(servers)
        return pending

    def launch(self, group: Group, servers: Sequence[Server], flights: dict[bytes, Flight]) -> int:
        """Ask many questions that nobody has asked yet, each of which one waits for; how many of them,
        from the first on, were: the rest are for :meth:`ask`.
        """
        if any(server.loops or server.upstream.tls for server in servers):
            return 0
        room = IN_FLIGHT_MOST - self.under_way
        if room < len(flights):
            flights = dict(islice(flights.items(), max(0, room)))
        asked = self.flights.launch(group, fastest_first(servers), flights)
        self._awake()
        return asked

    def _adopt(self, pending: Pending, waiter: object) -> None:
        self.in_flight[pending.key] = pending
        self._join(pending, waiter)

    def _awake(self) -> None:
        """Look after what is under way from now on."""
        if not self._sweeping:
            self._sweep_later()
        if not self._ticking:
            self._tick_later()

    def _join(self, pending: Pending, waiter: object) -> None:
        if waiter is not None:
            self.waiting += 1
            pending.waiters.append(waiter)

    def _end(self, pending: Pending, read: Any, why: str) -> None:
        self.in_flight.pop(pending.key, None)
        self.waiting -= len(pending.waiters)
        if pending.overdue and (len(pending.waiters) > 1 or any(map(_is_here, pending.silent()))):
            # the same question from several askers, and silence: it may have been our own that came back;
            # and a server of this machine may have asked it first, and wait for us as we for it
            self._suspect(pending)
        pending.asker.settled(pending, read, why)
        if not self.in_flight:
            if self._finished is not None:
                self._finished.set()
            if self._retired:
                self.close()

    def _sweep_later(self) -> None:
        self._sweeping = True
        asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """One look at all that is overdue costs less than a timer for each question."""
        self._sweeping = False
        now = monotonic()
        self.flights.sweep(now)
        for pending in list(self.in_flight.values()):
            if pending.patience_ends <= now:
                pending.patience_ends = NEVER
                pending.asker.impatient(pending)
            if pending.due <= now:
                pending.late(now)
        if self.under_way:
            self._sweep_later()

    # -- loops ----------------------------------------------------------------------------

    def came_back(self, key: bytes, name: str, hops: bytes) -> str:
        """Why a question that came with these marks must not be asked on; empty where it may."""
        marks = [hops[at : at + MARK_SIZE] for at in range(0, len(hops), MARK_SIZE)]
        for mark in marks:
            if mark.startswith(self.identity):
                server = next((s for s in self.known.values() if s.mark == mark), None)
                if server is not None:
                    self.loops += 1
                    server.loop_found(name, monotonic(), remember=False)
                    self.flights.land(key)
                    pending = self.in_flight.get(key)
                    if pending is not None:
                        pending.give_up(server)
                return f"what is asked of {server} comes back"
        if len(marks) >= HOPS_MOST:
            self.loops += 1
            return f"it has come by {len(marks)} servers"
        return ""

    def is_probe(self, name: str) -> bool:
        """Whether a name is one that only a server which asks us back can know; it is then known to loop."""
        label, _, rest = name.partition(".")
        probe = self._probes.get(label)
        if probe is None:
            return False
        probe.came_back = True
        self.loops += 1
        probe.server.loop_found(rest, monotonic(), remember=True)
        return True

    def _suspect(self, pending: Pending) -> None:
        """Find out whether servers that were silent ask us back, under names that nobody else can know."""
        now = monotonic()
        for server in pending.silent():
            if all(probe.server is not server for probe in self._probes.values()):
                probe = Probe(server, pending.asked.name, now)
                self._probes[probe.label] = probe
                probe.send()
        self._tick_later()

    # -- housekeeping -----------------------------------------------------------------------

    def _tick_later(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Close what is old, ask those that are down whether they are back; ends when all is quiet."""
        self._ticking = False
        now = monotonic()
        busy = bool(self.under_way)
        for probe in list(self._probes.values()):
            if probe.over(now):
                del self._probes[probe.label]
        for server in self.known.values():
            if server.down and server.probe_at <= now:
                server.put_off(now)
                probe = Probe(server, "", now)
                self._probes[probe.label] = probe
                probe.send()
            busy = server.ports.tidy() or server.down or busy
        if busy or self._probes:
            self._tick_later()

    async def finish(self, seconds: float) -> None:
        """Let what is under way end, for so many seconds, and let go of all sockets."""
        self.flights.land_all()
        if self.in_flight:
            self._finished = asyncio.Event()
            try:
                async with asyncio.timeout(seconds):
                    await self._finished.wait()
            except TimeoutError:
                pass
        self.close()

    def retire(self) -> None:
        """Let go of all sockets once nothing is under way."""
        self._retired = True
        self.flights.land_all()
        if not self.in_flight:
            self.close()

    def close(self) -> None:
        """Let go of all sockets at once; what is under way ends without a reply."""
        self._retired = False
        self.flights.land_all()
        for pending in list(self.in_flight.values()):
            pending.end(None, "the servers that are asked have changed, or discoverd is being stopped")
        self._probes.clear()
        for server in self.known.values():
            server.down = False
            server.close()


def _is_here(server: Server) -> bool:
    """Whether a server is one of this machine, such as systemd-resolved."""
    return server.upstream.host.startswith("127.") or server.upstream.host == "::1"
