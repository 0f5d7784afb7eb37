"""Forwarding against real servers on loopback: who is asked, which replies are believed, what comes back."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import dns.flags
import dns.message
import dns.rrset
import pytest

from discoverd.dns.server import bind
from discoverd.resolver import forward
from discoverd.resolver.forward import Forwarder, ForwardError, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answerer = Callable[[bytes], list[bytes]]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self.seen: list[tuple[bytes, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.seen.append((data, addr[1]))
        for reply in self._answerer(data):
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def upstream(answerer: Answerer) -> AsyncIterator[tuple[Upstream, _Udp]]:
    """A server whose answers the test decides, on a port of its own for UDP and TCP."""
    loop = asyncio.get_running_loop()
    listener = bind("127.0.0.1", 0)  # one port that is free for both
    port = listener.port
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Udp(answerer), sock=listener.udp)

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = answer(query, records=50)
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(stream, sock=listener.tcp)
    try:
        yield Upstream("127.0.0.1", port), protocol
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


def query(name: str = "example.com") -> tuple[bytes, int]:
    packet = dns.message.make_query(name, "A", id=0x1234).to_wire()
    return packet, len(packet)


def answer(packet: bytes, *, records: int = 1, truncated: bool = False) -> bytes:
    asked = dns.message.from_wire(packet)
    reply = dns.message.make_response(asked)
    if truncated:
        reply.flags |= dns.flags.TC
    else:
        addresses = [f"192.0.2.{i}" for i in range(1, records + 1)]
        reply.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", *addresses))
    return reply.to_wire()


async def ask(forwarder: Forwarder, name: str = "example.com", *, tcp: bool = False) -> dns.message.Message:
    packet, end = query(name)
    return dns.message.from_wire(await forwarder.ask(packet, name, end, tcp=tcp))


async def test_the_reply_comes_back_with_the_askers_id() -> None:
    async with upstream(lambda q: [answer(q)]) as (server, _):
        reply = await ask(Forwarder([server], {}))
    assert reply.id == 0x1234
    assert [str(r) for r in reply.answer[0]] == ["192.0.2.1"]


async def test_ids_and_source_ports_differ_from_query_to_query() -> None:
    async with upstream(lambda q: [answer(q)]) as (server, protocol):
        for _ in range(20):
            await ask(Forwarder([server], {}))
    assert len({data[:2] for data, _ in protocol.seen}) > 10
    assert len({port for _, port in protocol.seen}) > 10


async def test_forged_replies_are_passed_over() -> None:
    def forge(packet: bytes) -> list[bytes]:
        wrong_id = bytes([packet[0] ^ 1]) + answer(packet)[1:]
        other = dns.message.make_query("evil.example", "A").to_wire()
        wrong_question = packet[:2] + answer(other)[2:]
        return [b"", b"\0" * 5, packet, wrong_id, wrong_question, answer(packet, records=2)]

    async with upstream(forge) as (server, _):
        reply = await ask(Forwarder([server], {}))
    assert len(reply.answer[0]) == 2


async def test_a_cut_reply_is_passed_on_over_udp_and_fetched_for_tcp() -> None:
    async with upstream(lambda q: [answer(q, truncated=True)]) as (server, _):
        over_udp = await ask(Forwarder([server], {}))
        over_tcp = await ask(Forwarder([server], {}), tcp=True)
    assert over_udp.flags & dns.flags.TC
    assert not over_tcp.flags & dns.flags.TC
    assert len(over_tcp.answer[0]) == 50


async def test_the_next_server_is_asked_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TRY_SECONDS", 0.05)
    async with upstream(lambda _: []) as (silent, mute), upstream(lambda q: [answer(q)]) as (well, _):
        reply = await ask(Forwarder([silent, well], {}))
    assert reply.answer
    assert len(mute.seen) == 1


async def test_the_next_server_is_asked_when_a_port_is_closed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        closed = Upstream("127.0.0.1", held.getsockname()[1])
    async with upstream(lambda q: [answer(q)]) as (well, _):
        reply = await ask(Forwarder([closed, well], {}))
    assert reply.answer


async def test_nobody_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TRY_SECONDS", 0.05)
    forwarder = Forwarder([], {})
    async with upstream(lambda _: []) as (silent, _):
        forwarder.upstreams = (silent, silent)
        with pytest.raises(ForwardError, match="no answer from 127"):
            await ask(forwarder)
    assert forwarder.in_flight == 0


async def test_the_bound_on_questions_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "IN_FLIGHT_MOST", 0)
    with pytest.raises(ForwardError, match="under way already"):
        await ask(Forwarder([Upstream("127.0.0.1")], {}))


def test_the_longest_zone_wins() -> None:
    everyone, corp, deep = Upstream("192.0.2.1"), Upstream("192.0.2.2"), Upstream("192.0.2.3")
    forwarder = Forwarder([everyone], {"corp.example": [corp], "deep.corp.example": [deep]})
    assert forwarder.servers("www.example") == (everyone,)
    assert forwarder.servers("corp.example") == (corp,)
    assert forwarder.servers("a.b.corp.example") == (corp,)
    assert forwarder.servers("x.deep.corp.example") == (deep,)
    assert forwarder.configured("x.corp.example")
    assert not forwarder.configured("xcorp.example")
