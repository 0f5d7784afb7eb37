"""A question that discoverd itself asks: whether a server is back, or whether it asks us in turn."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from discoverd.resolver.upstreams.query import Asked

if TYPE_CHECKING:
    from discoverd.resolver.upstreams.server import Server

#: Seconds for the answer.
PROBE_SECONDS: Final = 3.0
RD: Final = 0x0100
ROOT_NS: Final = b"\0\0\2\0\1"
A_IN: Final = b"\0\1\0\1"


class Probe:
    """One probe. Below ``name`` it asks for a label that nobody can foresee; without one, for the root's
    name servers, which every resolver knows.
    """

    def __init__(self, server: Server, name: str, now: float) -> None:
        self.server, self._begun = server, now
        self.label = f"_discoverd-{secrets.token_hex(8)}"
        self.question = ROOT_NS
        if name and len(self.label) + 1 + len(name) <= 253:
            labels = [self.label, *name.split(".")]
            self.question = b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0" + A_IN
        self.came_back = self.done = False

    def send(self) -> None:
        """Whatever comes back counts as an answer. Probes for loops go without a mark, as a server that
        strips marks would send them.
        """
        server, asked = self.server, Asked(RD, self.question)
        query = server.query(asked) if self.question == ROOT_NS else asked.plain()
        if server.upstream.tls:
            server.stream.send(query, self)
            return
        try:
            server.ports.send(query, self)
        except OSError as error:
            self.failed(str(error))

    def over(self, now: float) -> bool:
        return self.done or now - self._begun > PROBE_SECONDS

    def replied(self, reply: bytes) -> None:  # noqa: ARG002 - as transports call it
        self.done = True
        if not self.came_back and self.question == ROOT_NS:
            self.server.answers(self.server.rtt or 0.1)

    def failed(self, why: str) -> None:  # noqa: ARG002
        self.done = True
