"""A name server whose replies the test decides, for what no real one does: forged, late, none at all."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from discoverd.dns.server import bind

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    Answerer = Callable[[bytes], list[bytes]]


class Scripted(asyncio.DatagramProtocol):
    """On 127.0.0.1 and ``port``, UDP and TCP. ``udp`` and ``tcp`` give the replies to a query, and may be
    replaced at any time.
    """

    port = 0

    def __init__(self, udp: Answerer, tcp: Answerer) -> None:
        self.udp, self.tcp = udp, tcp
        #: Every query with the port that it came from; connections made.
        self.seen: list[tuple[bytes, int]] = []
        self.streamed: list[bytes] = []
        self.connections: list[asyncio.StreamWriter] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.seen.append((data, addr[1]))
        for reply in self.udp(data):
            self.transport.sendto(reply, addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                self.streamed.append(query)
                for reply in self.tcp(query):
                    writer.write(len(reply).to_bytes(2, "big") + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def names(self) -> list[str]:
        """What was asked by UDP, in order."""
        return [str(dns.message.from_wire(data).question[0].name).rstrip(".") for data, _ in self.seen]

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(
    udp: Answerer | None = None, tcp: Answerer | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Scripted]:
    """Without an answerer every question for an address is answered, over TCP with fifty of them."""
    udp = udp or (lambda query: [answer(query)])
    tcp = tcp or (lambda query: [answer(query, records=50)])
    loop = asyncio.get_running_loop()
    listener = bind("127.0.0.1", port)
    made = Scripted(udp, tcp)
    made.port = listener.port
    transport, _ = await loop.create_datagram_endpoint(lambda: made, sock=listener.udp)
    server = await asyncio.start_server(made.serve, sock=listener.tcp, ssl=tls)
    try:
        yield made
    finally:
        transport.close()
        server.close()
        for writer in made.connections:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        await server.wait_closed()


def silence(_query: bytes) -> list[bytes]:
    return []


def answer(
    query: bytes,
    *,
    records: int = 1,
    ttl: int = 300,
    truncated: bool = False,
    rcode: int = 0,
    first: int = 1,
    **edns: Any,
) -> bytes:
    """A reply with so many addresses, from 198.51.0.``first`` on."""
    asked = dns.message.from_wire(query)
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    if truncated:
        reply.flags |= dns.flags.TC
    elif not rcode:
        addresses = [f"198.51.{i // 250}.{i % 250}" for i in range(first, first + records)]
        reply.answer.append(dns.rrset.from_text_list(asked.question[0].name, ttl, "IN", "A", addresses))
    if asked.edns >= 0 and edns.pop("opt", True):
        reply.use_edns(0, payload=4096, **edns)
    else:
        reply.use_edns(-1)
    return reply.to_wire(max_size=65535)


def denial(query: bytes, *, minimum: int = 60, ttl: int = 300, nxdomain: bool = True) -> bytes:
    """NXDOMAIN or no data, with an SOA record of this TTL and minimum."""
    asked = dns.message.from_wire(query)
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.set_rcode(dns.rcode.NXDOMAIN if nxdomain else dns.rcode.NOERROR)
    soa = f"ns.example. hostmaster.example. 1 3600 600 86400 {minimum}"
    reply.authority.append(dns.rrset.from_text("example.", ttl, "IN", "SOA", soa))
    return reply.to_wire()
