"""Carries questions for other people's names to the forwarder and its replies back to the sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from discoverd.dns import message
from discoverd.resolver.forward import Forwarder, ForwardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.dns.handler import Foreign

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

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def possible(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.forwarder.upstreams or self.forwarder.zones)

    def take(self, foreign: Foreign, send: Callable[[bytes], None]) -> None:
        """Forward one question; ``send`` gets exactly one reply."""
        loop = asyncio.get_running_loop()
        name = foreign.query.question.name
        if not self.forwarder.configured(name) and is_private(name):
            send(self._short(foreign, message.NXDOMAIN))
            return
        task = loop.create_task(self._ask(foreign, send), name=f"forward {name}")
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

    def _short(self, foreign: Foreign, rcode: int) -> bytes:
        opt = message.opt(foreign.udp_size) if foreign.query.edns is not None else b""
        return message.reply(foreign.query, message.RA, rcode, (0, 0, 0), b"", opt)


def is_private(name: str) -> bool:
    """Whether a name must not leave: a single label, or one below a name of local meaning."""
    return "." not in name or any(name == zone or name.endswith("." + zone) for zone in NEVER_SENT)
