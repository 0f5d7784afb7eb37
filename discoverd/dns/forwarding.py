"""Carries questions that wait for others to who answers them, and the replies back to the sockets.

Others are name servers, for other people's names, and whoever knows what a name of ours leads to.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from discoverd.dns import message
from discoverd.resolver.forward import Forwarder, ForwardError
from discoverd.resolver.outcome import Fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from discoverd.dns.foreign import Awaited, Foreign
    from discoverd.resolver.outcome import Outcome, Question

    LookUp = Callable[[Question, object], Awaitable[Outcome]]

log = logging.getLogger("discoverd.forward")

#: Names that are nobody's business beyond this machine unless a zone is configured for them:
#: RFC 6761, RFC 6762, RFC 6303 (private reverse zones), and single labels.
NEVER_SENT = (
    "local", "localhost", "invalid", "test", "onion", "home.arpa", "internal",
    "10.in-addr.arpa", "168.192.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa",
    *(f"{n}.172.in-addr.arpa" for n in range(16, 32)),
    "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa",
)  # fmt: skip


class Forwarding:
    """Owns the tasks of the questions that are under way."""

    def __init__(self, forwarder: Forwarder, look_up: LookUp | None = None) -> None:
        """``look_up`` answers a question by what the resolver said is to be looked up."""
        self.forwarder, self._look_up = forwarder, look_up
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def possible(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.forwarder.upstreams or self.forwarder.zones)

    def take(self, foreign: Foreign, send: Callable[[bytes], None]) -> None:
        """Forward one question; ``send`` gets exactly one reply."""
        name = foreign.query.question.name
        if foreign.awaited is not None:
            self._begin(self._await(foreign, foreign.awaited, send), f"look up {name}")
            return
        if not self.forwarder.configured(name) and is_private(name):
            send(self._short(foreign, message.NXDOMAIN))
            return
        self._begin(self._ask(foreign, send), f"forward {name}")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Let what is under way end, for so many seconds; the rest is cancelled."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()

    async def _ask(self, foreign: Foreign, send: Callable[[bytes], None]) -> None:
        query = foreign.query
        end = message.HEADER_SIZE + len(query.asked)
        try:
            reply = await self.forwarder.ask(foreign.packet, query.question.name, end, tcp=foreign.tcp)
        except ForwardError as error:
            log.warning("%s: %s", query.question.name, error)
            reply = self._short(foreign, message.SERVFAIL)
        send(reply)

    async def _await(self, foreign: Foreign, awaited: Awaited, send: Callable[[bytes], None]) -> None:
        outcome: Outcome = Fail("nobody to ask")
        if self._look_up is not None:
            outcome = await self._look_up(foreign.query.question, awaited.lookup)
        if isinstance(outcome, Fail):
            log.warning("%s: %s", foreign.query.question.name, outcome.reason)
        send(awaited.reply(outcome))

    def _short(self, foreign: Foreign, rcode: int) -> bytes:
        opt = message.opt(foreign.udp_size) if foreign.query.edns is not None else b""
        return message.reply(foreign.query, message.RA, rcode, (0, 0, 0), b"", opt)


def is_private(name: str) -> bool:
    """Whether a name must not leave: a single label, or one below a name of local meaning."""
    return "." not in name or any(name == zone or name.endswith("." + zone) for zone in NEVER_SENT)
