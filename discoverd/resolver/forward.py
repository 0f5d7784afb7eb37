"""Other people's names: asked of upstream servers, the reply passed on unchanged but for its id.

Each query goes out from a fresh connected socket, so the kernel picks a random source port and
drops what comes from elsewhere; id and question of the reply are checked (RFC 5452 section 9).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger("discoverd.forward")

#: Seconds for one server to answer, and for all tries together: Docker's embedded server gives an
#: answer 4 s before it asks the next server or stays silent.
TRY_SECONDS = 1.2
ALL_SECONDS = 3.5
#: Questions under way at once; more than that fail at once instead of queueing.
IN_FLIGHT_MOST = 1000

TC_BYTE = 0x02  # in octet 2 of the header
HEADER_SIZE = 12


class ForwardError(Exception):
    """No upstream server gave an answer; the text says which were tried."""


@dataclass(frozen=True, slots=True)
class Upstream:
    host: str
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Forwarder:
    """Asks upstream servers. ``zones`` name servers for a name and all below it; the longest match wins."""

    def __init__(self, upstreams: Sequence[Upstream], zones: Mapping[str, Sequence[Upstream]]) -> None:
        self.upstreams, self.zones = tuple(upstreams), {k: tuple(v) for k, v in zones.items()}
        self.in_flight = 0

    def servers(self, name: str) -> tuple[Upstream, ...]:
        """Whom to ask for a name; nobody for what must not leak (RFC 6761, 6762, 8375; bare labels)."""
        while name:
            if name in self.zones:
                return self.zones[name]
            _, _, rest = name.partition(".")
            name = rest
        return self.upstreams

    def configured(self, name: str) -> bool:
        """Whether a zone was configured for this name or one above it."""
        return any(name == zone or name.endswith("." + zone) for zone in self.zones)

    async def ask(self, packet: bytes, name: str, question_end: int, *, tcp: bool) -> bytes:
        """The reply to a query, its id restored. Raises ForwardError.

        ``question_end`` is the offset behind the question. A reply cut off over UDP is fetched
        over TCP where the asker came by TCP, else passed on with TC set.
        """
        servers = self.servers(name)
        if not servers:
            raise ForwardError("no upstream server is configured")
        if self.in_flight >= IN_FLIGHT_MOST:
            raise ForwardError(f"{self.in_flight} questions are under way already")
        self.in_flight += 1
        try:
            async with asyncio.timeout(ALL_SECONDS):
                return await self._ask_each(servers, packet, question_end, tcp=tcp)
        except TimeoutError:
            raise ForwardError(f"no answer within {ALL_SECONDS} s from {_listed(servers)}") from None
        finally:
            self.in_flight -= 1

    async def _ask_each(
        self, servers: Sequence[Upstream], packet: bytes, question_end: int, *, tcp: bool
    ) -> bytes:
        for server in servers:
            query = secrets.token_bytes(2) + packet[2:]
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    reply = await _exchange_udp(server, query, question_end)
                    if reply[2] & TC_BYTE and tcp:
                        reply = await _exchange_tcp(server, query, question_end)
            except (OSError, TimeoutError, EOFError) as error:
                log.debug("%s: %s", server, str(error) or "no answer")
                continue
            return packet[:2] + reply[2:]
        raise ForwardError(f"no answer from {_listed(servers)}")


def _listed(servers: Sequence[Upstream]) -> str:
    return ", ".join(map(str, servers))


def matches(query: bytes, reply: bytes, question_end: int) -> bool:
    """Whether a message is the response to this query: id, QR, one question, the same question."""
    return (
        len(reply) >= question_end
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and reply[4:6] == b"\0\1"
        and reply[HEADER_SIZE:question_end].lower() == query[HEADER_SIZE:question_end].lower()
    )


async def _exchange_udp(server: Upstream, query: bytes, question_end: int) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((server.host, server.port))
        await loop.sock_sendall(sock, query)
        while True:
            reply = await loop.sock_recv(sock, 65535)
            if matches(query, reply, question_end):
                return reply


async def _exchange_tcp(server: Upstream, query: bytes, question_end: int) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        length = int.from_bytes(await reader.readexactly(2), "big")
        reply = await reader.readexactly(length)
    finally:
        writer.close()
    if not matches(query, reply, question_end):
        raise EOFError("the reply is not to this question")
    return reply
