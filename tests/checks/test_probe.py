"""Probes against real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import dns.message
import dns.name
import dns.rcode
import pytest

from discoverd.checks import probe as probes
from discoverd.checks.probe import dns_fault, dns_query, http_fault, probe
from discoverd.model import Check, CheckKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LOOPBACK = ip_address("127.0.0.1")


@asynccontextmanager
async def serving(response: bytes, seen: list[bytes] | None = None) -> AsyncGenerator[int]:
    """A TCP server that reads a request up to its empty line, answers and closes; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(request)
            writer.write(response)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, str(LOOPBACK), 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def unused_port() -> int:
    async with serving(b"") as port:
        return port


async def test_tcp() -> None:
    async with serving(b"") as port:
        assert await probe(LOOPBACK, Check(CheckKind.TCP, port)) == ""
    assert "refused" in (await probe(LOOPBACK, Check(CheckKind.TCP, await unused_port()))).lower()


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 204\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP status line"),
        (b"x" * 5000 + b"\n", "no HTTP status line"),
    ],
)
async def test_http(response: bytes, fault: str) -> None:
    seen: list[bytes] = []
    async with serving(response, seen) as port:
        assert await probe(LOOPBACK, Check(CheckKind.HTTP, port, "/well?x=1")) == fault
    assert seen[0].startswith(b"GET /well?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)


async def test_http_that_says_nothing() -> None:
    async with serving(b"") as port:
        assert await probe(LOOPBACK, Check(CheckKind.HTTP, port, "/"))


async def test_a_silent_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TIMEOUT", 0.05)
    done = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_server(hang, str(LOOPBACK), 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await probe(LOOPBACK, Check(CheckKind.HTTP, port, "/")) == "no answer within 0.05 s"
        done.set()


class Answering(asyncio.DatagramProtocol):
    def __init__(self, rcode: dns.rcode.Rcode) -> None:
        self.rcode, self.asked = rcode, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked = query.question[0].to_text()
        reply = dns.message.make_response(query)
        reply.set_rcode(self.rcode)
        self.transport.sendto(b"\0\0not for this question", addr)
        self.transport.sendto(reply.to_wire(), addr)


@pytest.mark.parametrize(
    ("rcode", "fault"),
    [
        (dns.rcode.NOERROR, ""),
        (dns.rcode.SERVFAIL, "DNS response code 2"),
        (dns.rcode.REFUSED, "DNS response code 5"),
    ],
)
async def test_dns(rcode: dns.rcode.Rcode, fault: str) -> None:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: Answering(rcode), local_addr=(str(LOOPBACK), 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        assert await probe(LOOPBACK, Check(CheckKind.DNS, port, "db.example")) == fault
        assert server.asked == "db.example. IN A"
    finally:
        transport.close()
    refused = await probe(LOOPBACK, Check(CheckKind.DNS, port, "db.example"))
    assert "refused" in refused.lower()


def test_dns_by_itself() -> None:
    query = dns.message.from_wire(dns_query("A.b.", 7))
    assert (query.id, query.question[0].name) == (7, dns.name.from_text("A.b."))
    assert dns_fault(b"short") == "no DNS reply"
    assert dns_fault(dns_query("a", 1)) == "no DNS reply"
    for name in ("x" * 64, "a." * 200, "é"):
        with pytest.raises(ValueError):
            dns_query(name, 1)
    assert http_fault(b"") == http_fault(b"HTTP/1.1\r\n") == "no HTTP status line"
