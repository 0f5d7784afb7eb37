"""Questions for other people's names: answered from what is kept, else carried to who answers them.

Others are name servers, and whoever knows what a name of ours leads to. Every question that is taken
gets exactly one reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from discoverd.dns import message, upstreamed, wire
from discoverd.dns.kept import Kept
from discoverd.dns.message import MalformedError
from discoverd.resolver import private
from discoverd.resolver.cache import Cache
from discoverd.resolver.forward import ALL_SECONDS, Forwarder
from discoverd.resolver.outcome import Fail
from discoverd.resolver.upstreams.pending import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from discoverd.dns.fastpath import Fastpath
    from discoverd.dns.foreign import Awaited, Foreign, Waiter
    from discoverd.dns.ratelimit import RateLimit
    from discoverd.dns.upstreamed import Upstreamed
    from discoverd.resolver.cache import Entry
    from discoverd.resolver.outcome import Outcome, Question
    from discoverd.resolver.upstreams import Server
    from discoverd.resolver.upstreams.pending import Pending
    from discoverd.resolver.upstreams.query import Asked

    LookUp = Callable[[Question, object], Awaitable[Outcome]]

#: What was counted, by what it is and which server it is of ("" where it is of none).
Tally = Counter[tuple[str, str]]
PRESENT: Final = frozenset({"entries", "octets", "in flight", "up"})

log = logging.getLogger("discoverd.forward")

#: Answers kept, and octets that they may take in all.
ENTRIES_MOST: Final = 10_000
OCTETS_MOST: Final = 32 * 1024 * 1024
#: Seconds after which an asker is given a stale answer while a fresh one is waited for, and the TTL of
#: stale ones (RFC 8767 sections 4 and 5).
STALE_AFTER_SECONDS: Final = 1.8
STALE_TTL: Final = 30
#: Domains that are known to be somebody else's.
DOMAINS_MOST: Final = 10_000
#: Octets of a key behind the question.
VARIANT: Final = 1
#: Failures that are told one by one, in so many seconds.
TOLD_MOST: Final = 5
TOLD_SECONDS: Final = 10.0


class Forwarding:
    """Owns the cache and what is under way. ``look_up`` answers a question by what the resolver said is
    to be looked up.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        look_up: LookUp | None = None,
        fastpath: Fastpath | None = None,
        is_elsewhere: Callable[[str], bool] = lambda _domain: False,
    ) -> None:
        self._forwarder, self._look_up = forwarder, look_up
        self.cache: Cache[Upstreamed] = Cache(ENTRIES_MOST, OCTETS_MOST, variant=VARIANT)
        self.kept = Kept(fastpath, self.cache, self._refresh) if fastpath is not None else None
        #: Domains in wire format to who is asked about all names right below them, none of them ours.
        self.elsewhere: dict[bytes, Sequence[Server]] = fastpath.elsewhere if fastpath is not None else {}
        self._is_elsewhere = is_elsewhere
        self._tasks: set[asyncio.Task[None]] = set()
        self._told, self._told_since = 0, float("-inf")
        #: Counted along: it bounds all replies.
        self.rate_limit: RateLimit | None = None
        #: Of replies: failures by why, and those that never left this machine.
        self.failed = self.private = 0

    @property
    def forwarder(self) -> Forwarder:
        return self._forwarder

    @forwarder.setter
    def forwarder(self, new: Forwarder) -> None:
        """Ask others from now on; what is under way at the old ones is let end."""
        old = self._forwarder
        if (old.upstreams, old.zones) == (new.upstreams, new.zones):
            return
        self._forwarder = new
        self.flush()
        self.changed()
        old.retire()

    @property
    def possible(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.forwarder.upstreams or self.forwarder.zones)

    def tally(self) -> Tally:
        """What is counted, and what there is now, by what it is and of which server."""
        cache, forwarder = self.cache, self._forwarder
        found: Tally = Counter({
            ("entries", ""): len(cache),
            ("octets", ""): cache.octets,
            ("hits", ""): cache.hits + (self.kept.given if self.kept is not None else 0),
            ("misses", ""): cache.misses,
            ("stale", ""): cache.stale,
            ("evicted", ""): cache.evicted,
            ("prefetched", ""): cache.prefetched,
            ("in flight", ""): forwarder.under_way,
            ("rejected", ""): forwarder.rejected,
            ("loops", ""): forwarder.loops,
            ("failed", ""): self.failed,
            ("private", ""): self.private,
        })  # fmt: skip
        if self.rate_limit is not None:
            found["dropped", ""] = self.rate_limit.dropped
            found["truncated", ""] = self.rate_limit.truncated
        for server in forwarder.known.values():
            found["sent", str(server)] += server.sent
            found["answered", str(server)] += server.answered
            found["unanswered", str(server)] += server.failed_count
            found["up", str(server)] += not server.down
        return found

    def changed(self) -> None:
        """The registry has changed, or what is configured: what is known of domains may be wrong."""
        self.elsewhere.clear()

    def _learn(self, foreign: Foreign, servers: Sequence[Server]) -> None:
        """Know for the next time that all names right below this one's domain are others'."""
        key, (_, _, domain) = foreign.query.key, foreign.query.question.name.partition(".")
        octets = key[1 + key[0] : -4]
        if (
            octets not in self.elsewhere
            and len(self.elsewhere) < DOMAINS_MOST
            and domain
            and private.zone_of(f"x.{domain}") is None
            and not any(zone.partition(".")[2] == domain for zone in self._forwarder.zones)
            and self._is_elsewhere(domain)
        ):
            self.elsewhere[octets] = servers

    def flush(self, name: str | None = None) -> int:
        """Forget what is kept of a name and all below it, without one everything; how many answers."""
        if self.kept is not None:
            self.kept.forget()
        return self.cache.flush(None if name is None else wire.pack_name(name))

    def take(self, foreign: Foreign, send: Callable[[bytes], None]) -> None:
        """Answer one question, now or later; ``send`` gets exactly one reply."""
        question, forwarder = foreign.query.question, self._forwarder
        if foreign.awaited is not None:
            self._begin(self._await(foreign, foreign.awaited, send), f"look up {question.name}")
            return
        if forwarder.is_probe(question.name):
            send(foreign.failure(message.SERVFAIL))
            return
        zone = private.zone_of(question.name)
        kept_here = zone is not None and not forwarder.configured(question.name)
        servers = forwarder.servers(question.name)
        if kept_here or not servers:
            self.private += 1
            send(self._private(foreign, zone or ""))
            return
        key, hops = foreign.key, foreign.hops
        if hops and (why := forwarder.came_back(key, question.name, hops)):
            self._fail(foreign, why)
            send(foreign.failure(message.SERVFAIL))
            return
        self._learn(foreign, servers)
        self._take(foreign, key, servers, send)

    def _take(
        self, foreign: Foreign, key: bytes, servers: Sequence[Server], send: Callable[[bytes], None]
    ) -> None:
        cache = self.cache
        entry, now = cache.get(key), cache.clock()
        if entry is None or now >= entry.expires:
            self.miss(key, foreign.asked, servers, foreign.waiter(send), entry)
            return
        cache.hits += 1
        entry.hits += 1
        if entry.value is None:
            send(foreign.failure(message.SERVFAIL))
            return
        reply = foreign.answer(entry.value, entry.value.aged(int(now - entry.stored)), kept=True)
        send(reply)
        if self.kept is not None:
            self.kept.offer(foreign, entry, reply)
        if entry.wants_refresh(now):
            self._refresh(foreign, entry)

    def miss(
        self,
        key: bytes,
        asked: Asked,
        servers: Sequence[Server],
        waiter: Waiter,
        entry: Entry[Upstreamed] | None,
    ) -> None:
        """Ask a question that nothing fresh is kept for, ``entry`` being what is."""
        self.cache.misses += 1
        if entry is not None:
            now = self.cache.clock()
            if now < entry.retry_at or all(server.down for server in servers):
                self._serve_stale(waiter, entry)
                if now < entry.retry_at:
                    return
        pending = self._forwarder.ask(key, asked, servers, waiter, self)
        if isinstance(pending, str):
            self._settle(key, asked, [waiter], None, pending)
        elif entry is not None and pending.patience_ends == NEVER:
            pending.patience_ends = monotonic() + STALE_AFTER_SECONDS

    # -- what becomes of it: see upstreams.pending.Asker ------------------------------------

    def read(self, reply: bytes, pending: Pending) -> Upstreamed:
        try:
            return upstreamed.read(reply, pending.key[:-VARIANT])
        except MalformedError as error:
            raise ValueError(str(error)) from None

    def impatient(self, pending: Pending) -> None:
        entry = self.cache.peek(pending.key)
        if entry is not None:
            for waiter in pending.waiters:
                self._serve_stale(waiter, entry)

    def settled(self, pending: Pending, read: Upstreamed | None, why: str) -> None:
        self._settle(pending.key, pending.asked, pending.waiters, read, why)

    def _settle(
        self, key: bytes, asked: Asked, waiters: Sequence[Waiter], reply: Upstreamed | None, why: str
    ) -> None:
        cache, old = self.cache, None
        if good := reply is not None and reply.is_good:
            if reply.lifetime > 0:
                cache.put(key, reply, reply.lifetime, reply.size)
            elif (kept := cache.peek(key)) is not None:
                kept.refreshing = False
        else:
            old = cache.peek(key)
            cache.failed(key)
        for waiter in waiters:
            if waiter.served:
                continue
            if old is not None and old.value is not None:
                self._serve_stale(waiter, old)
            elif reply is not None:
                waiter.serve(waiter.answer(reply, reply.records))
            else:
                waiter.serve(waiter.failure(message.SERVFAIL))
        if not good and why:
            self._tell(asked.name, why)

    def _serve_stale(self, waiter: Waiter, entry: Entry[Upstreamed]) -> None:
        """RFC 8767: better an old answer than none."""
        reply, now = entry.value, self.cache.clock()
        if waiter.served or reply is None:
            return
        fresh = now < entry.expires
        self.cache.stale += not fresh
        records = reply.aged(int(now - entry.stored)) if fresh else reply.aged(0, STALE_TTL)
        waiter.serve(waiter.answer(reply, records, kept=True))

    def _refresh(self, foreign: Foreign, entry: Entry[Upstreamed]) -> None:
        """Ask anew before an answer's time is over; nobody waits for it."""
        asked, forwarder = foreign.asked, self._forwarder
        entry.refreshing = True
        pending = forwarder.ask(entry.key, asked, forwarder.servers(asked.name), None, self)
        if isinstance(pending, str):
            entry.refreshing = False
        else:
            self.cache.prefetched += 1

    # -- what is not asked ------------------------------------------------------------------

    def _private(self, foreign: Foreign, zone: str) -> bytes:
        query = foreign.query
        prepared = wire.prepare(private.answer(query.question, zone), query.key)
        room = foreign.limit - message.HEADER_SIZE - len(query.asked) - len(foreign.opt)
        tc, sections, body = prepared.body(0, room)
        return message.reply(query, tc | message.RA, prepared.rcode, sections, body, foreign.opt)

    def _fail(self, foreign: Foreign, why: str) -> None:
        self._tell(foreign.query.question.name, why)

    def _tell(self, name: str, why: str) -> None:
        """One line for each failure, but for those of a flood."""
        self.failed += 1
        now = self.cache.clock()
        if now - self._told_since > TOLD_SECONDS:
            if self._told > TOLD_MOST:
                log.warning("%d more questions failed", self._told - TOLD_MOST)
            self._told, self._told_since = 0, now
        self._told += 1
        if self._told <= TOLD_MOST:
            log.warning("%s: %s", name, why)

    # -- what is looked up ------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, foreign: Foreign, awaited: Awaited, send: Callable[[bytes], None]) -> None:
        outcome: Outcome = Fail("nobody to ask")
        if self._look_up is not None:
            outcome = await self._look_up(foreign.query.question, awaited.lookup)
        if isinstance(outcome, Fail):
            log.warning("%s: %s", foreign.query.question.name, outcome.reason)
        send(awaited.reply(outcome))

    async def finish(self, seconds: float) -> None:
        """Let what is under way end, for so many seconds; the rest is cancelled."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(seconds, ALL_SECONDS)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
        await self._forwarder.finish(max(0.0, end - loop.time()))


def ended(tally: Tally) -> Tally:
    """What stays of a tally when its process has ended: counts, and nothing that there was just then."""
    return Counter({key: count for key, count in tally.items() if key[0] not in PRESENT})
