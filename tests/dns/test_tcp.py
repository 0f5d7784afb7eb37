"""DNS over TCP (RFC 7766) on real sockets: frames as they may come, clients as they may be."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import struct
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.dns import limits as limits_of
from discoverd.dns import tcp
from discoverd.dns.limits import Limits
from discoverd.dns.message import SERVFAIL, bare
from tests.dns.serving import framed, instance, options, query, records, serving
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discoverd.dns.handler import Foreign
    from tests.dns.serving import Serving, Stream


def numbered(count: int, name: str = "web.docker", **edns: Any) -> list[bytes]:
    """Queries with the ids 0, 1, 2 and so on."""
    made = []
    for number in range(count):
        asked = query(name, **edns)
        asked.id = number
        made.append(asked.to_wire())
    return made


async def replies(stream: Stream, count: int) -> list[dns.message.Message]:
    return [dns.message.from_wire(await stream.receive()) for _ in range(count)]


async def works(stream: Stream) -> bool:
    """Whether this connection still answers."""
    await stream.send(*numbered(1))
    reply = dns.message.from_wire(await stream.receive())
    return len(records(reply, "A")) == 3


# -- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("edns", [{}, {"use_edns": 0}], ids=["plain", "edns"])
async def test_queries_may_be_pipelined(server: Serving, edns: dict[str, Any]) -> None:
    """RFC 7766 section 6.2.1.1: many in one segment, all answered, in rotation."""
    stream = await server.connect()
    await stream.send(*numbered(300, **edns))
    got = await replies(stream, 300)
    assert sorted(r.id for r in got) == list(range(300))
    assert all(len(records(r, "A")) == 3 for r in got)
    assert all((r.edns == 0) == bool(edns) for r in got)
    firsts = [records(r, "A")[0] for r in got]
    assert len(set(firsts[:3])) == 3
    assert firsts[3:] == firsts[:-3]
    await stream.close()


async def test_different_questions_may_be_pipelined(server: Serving) -> None:
    """Answered from what is kept, by the resolver, and not at all, next to each other."""
    names = ["web.docker", "nobody.docker", "WEB.docker", "six.docker", "elsewhere.example", "docker"]
    asked = [query(name, "SOA" if name == "docker" else "A") for name in names * 20]
    for number, each in enumerate(asked):
        each.id = number
    stream = await server.connect()
    await stream.send(*(q.to_wire() for q in asked))
    got = {r.id: r for r in await replies(stream, len(asked))}
    rcodes = {"nobody.docker": dns.rcode.NXDOMAIN, "elsewhere.example": dns.rcode.REFUSED}
    for each, name in zip(asked, names * 20, strict=True):
        assert each.is_response(got[each.id])
        assert got[each.id].rcode() == rcodes.get(name, dns.rcode.NOERROR)
        assert got[each.id].question[0].name.to_text() == f"{name}."
    await stream.close()


async def test_frames_may_come_in_pieces_of_one_octet(server: Serving) -> None:
    stream = await server.connect()
    for octet in b"".join(map(framed, numbered(3))):
        await stream.send_raw(bytes([octet]))
    assert [r.id for r in await replies(stream, 3)] == [0, 1, 2]
    await stream.close()


@pytest.mark.parametrize("cut", [1, 2, 3, 13, 30, 45])
async def test_a_frame_may_be_cut_anywhere(server: Serving, cut: int) -> None:
    frames = b"".join(map(framed, numbered(2)))
    stream = await server.connect()
    await stream.send_raw(frames[:cut])
    await stream.send_raw(frames[cut:])
    assert [r.id for r in await replies(stream, 2)] == [0, 1]
    await stream.close()


async def test_the_length_goes_out_with_the_message(server: Serving) -> None:
    """RFC 7766 section 8: some clients read both at once."""
    stream = await server.connect()
    await stream.send(*numbered(1))
    octets = await stream.reader.read(65535)
    assert len(octets) == 2 + int.from_bytes(octets[:2], "big")
    await stream.close()


async def test_an_empty_frame_is_nothing(server: Serving) -> None:
    stream = await server.connect()
    await stream.send(b"", b"", *numbered(1), b"")
    assert [r.id for r in await replies(stream, 1)] == [0]
    assert await works(stream)
    await stream.close()


@pytest.mark.parametrize(
    "packet",
    [b"x", b"\0" * 11, bare(0, 0, 0), b"\0\1\x80\0" + b"\xff" * 100],
    ids=["one octet", "no header", "a response", "a garbled response"],
)
async def test_what_is_no_query_ends_the_connection(server: Serving, packet: bytes) -> None:
    """But what came before it is answered."""
    stream = await server.connect()
    await stream.send(*numbered(2), packet, *numbered(1))
    assert [r.id for r in await replies(stream, 2)] == [0, 1]
    assert await stream.ended()


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0),
        struct.pack("!HHHHHH", 5, 0, 2, 0, 0, 0) + b"\0\0\1\0\1" * 2,
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + b"\x40" + b"x" * 64 + b"\0\0\1\0\1",
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + b"\x3f" + b"x" * 10,
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1",
        struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + b"\3web\0\0\1\0",
    ],
    ids=["no question", "two", "label type", "pointer", "cut label", "name too long", "cut class"],
)
async def test_a_malformed_query_is_formerr_and_the_connection_goes_on(
    server: Serving, packet: bytes
) -> None:
    stream = await server.connect()
    await stream.send(packet)
    reply = dns.message.from_wire(await stream.receive())
    assert (reply.id, reply.rcode()) == (5, dns.rcode.FORMERR)
    assert await works(stream)
    await stream.close()
    assert dns.message.from_wire(await server.octets(packet)).rcode() == dns.rcode.FORMERR


async def test_the_largest_frame_is_read(server: Serving) -> None:
    """65,535 octets: a question, and one option that fills the rest and is ignored."""
    asked = query("web.docker").to_wire()
    filling = 65535 - len(asked) - 11 - 4
    opt = b"\0\0\x29\x04\xd0\0\0\0\0" + struct.pack("!HHH", filling + 4, 65001, filling) + bytes(filling)
    packet = asked[:11] + b"\1" + asked[12:] + opt
    assert len(packet) == 65535
    stream = await server.connect()
    await stream.send(packet)
    reply = dns.message.from_wire(await stream.receive())
    assert len(records(reply, "A")) == 3
    assert not options(reply)
    assert await works(stream)
    await stream.close()


# -- answers --------------------------------------------------------------------------------


async def test_what_is_cut_off_over_udp_is_whole_over_tcp(server: Serving) -> None:
    server.publish(*(instance("many", f"192.0.2.{i}") for i in range(1, 201)))
    stream = await server.connect()
    forms: list[dict[str, Any]] = [{}, {"use_edns": 0}, {"use_edns": 0, "payload": 512}]
    for edns in forms:
        for _ in range(3):
            assert (await server.ask(query("many.docker", **edns))).flags & dns.flags.TC
            await stream.send(query("many.docker", **edns).to_wire())
            reply = dns.message.from_wire(await stream.receive())
            assert not reply.flags & dns.flags.TC
            assert len(records(reply, "A")) == 200
    await stream.close()


async def test_large_sets_rotate_over_tcp(server: Serving) -> None:
    server.publish(*(instance("many", f"192.0.2.{i}") for i in range(1, 201)))
    stream = await server.connect()
    asked = numbered(200, "many.docker")
    await stream.send(*asked)
    data = len(asked[0]) + 12  # behind the question: a pointer, type, class, TTL and length
    firsts = {(await stream.receive())[data : data + 4] for _ in asked}
    assert firsts == {bytes((192, 0, 2, i)) for i in range(1, 201)}
    await stream.close()


async def test_glue_that_udp_has_no_room_for_is_there_over_tcp(server: Serving) -> None:
    """Twenty SRV records fit into 1232 octets, their twenty addresses do not."""
    server.publish(*(instance("many", f"192.0.2.{i}", ports=(80,)) for i in range(101, 121)))
    for _ in range(3):
        over_udp = await server.ask(query("many.docker", "SRV", use_edns=0))
        over_tcp = await server.ask(query("many.docker", "SRV", use_edns=0), tcp=True)
        assert not over_udp.flags & dns.flags.TC
        assert len(records(over_udp, "SRV")) == len(records(over_tcp, "SRV")) == 20
        assert len(records(over_udp, "A", "additional")) < 20
        assert len(records(over_tcp, "A", "additional")) == 20


async def test_a_change_is_answered_on_an_open_connection(server: Serving) -> None:
    stream = await server.connect()
    assert await works(stream)
    server.publish(instance("web", "192.0.2.77"))
    await stream.send(*numbered(1))
    assert records(dns.message.from_wire(await stream.receive()), "A") == ["192.0.2.77"]
    await stream.close()


# -- forwarded ------------------------------------------------------------------------------


class Slow:
    """Takes questions for other people's names, and answers when told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[Foreign, Callable[[bytes], None]]] = []

    def __call__(self, foreign: Foreign, send: Callable[[bytes], None]) -> None:
        self.taken.append((foreign, send))

    def answer(self, number: int) -> None:
        foreign, send = self.taken[number]
        send(bare(foreign.query.id, foreign.query.flags, SERVFAIL))


@pytest.fixture
def slow(server: Serving, monkeypatch: pytest.MonkeyPatch) -> Slow:
    forward = Slow()
    assert server.app.server is not None
    for endpoint in server.app.server.tcp:
        endpoint.forward = forward
    monkeypatch.setattr(server.app.handler, "_may_recurse", lambda _asker: True)
    return forward


def foreign(number: int) -> bytes:
    asked = dns.message.make_query("elsewhere.example", "A", id=number)
    return asked.to_wire()


async def test_what_is_forwarded_holds_nothing_up(server: Serving, slow: Slow) -> None:
    """RFC 7766 section 6.2.1.1: replies may come in any order."""
    stream = await server.connect()
    await stream.send(foreign(1001), foreign(1002), *numbered(1))
    assert [r.id for r in await replies(stream, 1)] == [0]
    await until_async(lambda: len(slow.taken) == 2)
    slow.answer(1)
    slow.answer(0)
    assert [r.id for r in await replies(stream, 2)] == [1002, 1001]
    await stream.close()


async def test_a_half_closed_client_gets_what_was_forwarded(server: Serving, slow: Slow) -> None:
    stream = await server.connect()
    await stream.send(foreign(1001), *numbered(1))
    stream.writer.write_eof()
    assert [r.id for r in await replies(stream, 1)] == [0]
    await until_async(lambda: bool(slow.taken))
    slow.answer(0)
    assert [r.id for r in await replies(stream, 1)] == [1001]
    assert await stream.ended()


async def test_a_reply_to_who_has_gone_is_dropped(server: Serving, slow: Slow) -> None:
    stream = await server.connect()
    await stream.send(foreign(1001))
    await until_async(lambda: bool(slow.taken))
    # with a reset: an end alone would say that there is nothing more to ask
    sock = stream.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.writer.transport.abort()
    await until_async(lambda: not connections(server))
    slow.answer(0)
    assert len(records(await server.ask(query("web.docker"), tcp=True), "A")) == 3


# -- clients --------------------------------------------------------------------------------


def connections(server: Serving) -> set[tcp.Connection]:
    assert server.app.server is not None
    return server.app.server.tcp[0].connections


def limits(server: Serving) -> Limits:
    assert server.app.server is not None
    return server.app.server.tcp[0].limits


async def test_a_half_closed_client_gets_its_answers(server: Serving) -> None:
    stream = await server.connect()
    await stream.send(*numbered(50))
    stream.writer.write_eof()
    assert len(await replies(stream, 50)) == 50
    assert await stream.ended()
    await until_async(lambda: not connections(server))


async def test_a_client_that_ends_within_a_frame_is_let_go(server: Serving) -> None:
    stream = await server.connect()
    await stream.send_raw(b"\1\0half of a")
    await until_async(lambda: limits(server).held == 11)
    stream.writer.write_eof()
    assert await stream.ended()
    await until_async(lambda: not connections(server))
    assert limits(server).held == 0
    assert not limits(server).per_client


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "IDLE_SECONDS", 0.5)


async def test_an_idle_connection_is_closed(server: Serving, impatient: None) -> None:
    stream = await server.connect()
    assert await works(stream)
    assert await stream.ended()
    await until_async(lambda: not connections(server))


async def test_octets_that_make_no_query_keep_no_connection(server: Serving, impatient: None) -> None:
    """A query that never ends, an octet at a time."""
    stream = await server.connect()
    await stream.send_raw(b"\xff\xff")

    while connections(server):
        with contextlib.suppress(ConnectionError):
            await stream.send_raw(b"x")
        await asyncio.sleep(0)
    assert limits(server).held == 0
    await stream.close()


async def test_a_forwarded_question_keeps_the_connection(
    server: Serving, impatient: None, slow: Slow
) -> None:
    stream = await server.connect()
    await stream.send(foreign(1001))
    await until_async(lambda: bool(slow.taken))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await until_async(lambda: loop.time() > begun + 1.5)
    slow.answer(0)
    assert [r.id for r in await replies(stream, 1)] == [1001]
    await stream.close()


async def test_who_does_not_read_is_not_read_and_then_closed(server: Serving, impatient: None) -> None:
    """Large answers to many questions: what waits for the client stays bounded, and so does its time."""
    server.publish(*(instance("many", f"10.0.{i // 250}.{i % 250}") for i in range(2000)))
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, (server.host, server.port))
        questions = b"".join(map(framed, numbered(2000, "many.docker")))
        sending = loop.create_task(loop.sock_sendall(sock, questions), name="sending")
        await until_async(lambda: bool(connections(server)))
        (connection,) = connections(server)
        most = 0
        while connections(server):
            most = max(most, connection._transport.get_write_buffer_size())
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    # one write of replies beyond the mark, of which the last one goes over it
    assert 0 < most < 4 * tcp.UNREAD_MOST
    assert limits(server).held == 0


async def test_who_reads_late_gets_everything(server: Serving) -> None:
    """Questions that wait because nobody read the answers are answered once somebody does."""
    server.publish(*(instance("many", f"10.0.{i // 250}.{i % 250}") for i in range(2000)))
    stream = await server.connect()
    sending = asyncio.get_running_loop().create_task(
        stream.send(*numbered(1000, "many.docker")), name="sending"
    )
    await until_async(lambda: limits(server).held > 0)
    got = [await stream.receive() for _ in range(1000)]
    await sending
    assert [int.from_bytes(reply[:2], "big") for reply in got] == list(range(1000))
    assert all(len(reply) > 32000 for reply in got)
    await stream.close()


# -- limits ---------------------------------------------------------------------------------


async def test_one_client_cannot_take_all_connections(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_of, "CONNECTIONS_PER_CLIENT", 3)
    streams = [await server.connect() for _ in range(3)]
    for stream in streams:
        assert await works(stream)
    assert await (await server.connect()).ended()
    assert server.app.server is not None
    assert server.app.server.tcp[0].refused == 1
    other = await asyncio.open_connection(server.host, server.port, local_addr=("127.0.0.2", 0))
    other[1].write(framed(numbered(1)[0]))
    assert await other[0].readexactly(2)
    other[1].close()
    await streams[0].close()
    await until_async(lambda: limits(server).per_client["127.0.0.1"] == 2)
    again = await server.connect()
    assert await works(again)
    for stream in (*streams[1:], again):
        await stream.close()


async def test_connections_are_limited_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all listening sockets together."""
    monkeypatch.setattr(limits_of, "CONNECTIONS_MOST", 2)
    async with serving(tmp_path, listen=["127.0.0.1:0", "127.0.0.2:0"]) as server:
        server.publish(instance("web", "192.0.2.1"))
        first, second = server.app.listeners
        one = await asyncio.open_connection(first.host, first.port)
        two = await asyncio.open_connection(second.host, second.port)
        await until_async(lambda: limits(server).connections == 2)
        three = await asyncio.open_connection(second.host, second.port)
        assert await three[0].read(1) == b""
        for _, writer in (one, two, three):
            writer.close()
        await until_async(lambda: limits(server).connections == 0)


async def test_what_is_incomplete_is_limited_in_all(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "HELD_MOST", 100_000)
    one, two = await server.connect(), await server.connect()
    await one.send_raw(b"\xff\xff" + bytes(60_000))
    await until_async(lambda: limits(server).held == 60_002)
    await two.send_raw(b"\xff\xff" + bytes(60_000))
    assert await two.ended()
    assert limits(server).held == 60_002
    await one.send_raw(bytes(5_535))
    reply = dns.message.from_wire(await one.receive())
    assert reply.rcode() == dns.rcode.FORMERR
    assert limits(server).held == 0
    await one.close()


def test_half_of_the_files_are_left_for_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (8, 8))
    few = Limits()
    assert [few.admit(f"192.0.2.{i}") for i in range(5)] == [True] * 4 + [False]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (-1, -1))
    assert Limits().admit("192.0.2.1")


# -- the end --------------------------------------------------------------------------------


async def test_at_the_end_what_was_answered_leaves(tmp_path: Path) -> None:
    """Replies that a client has not read yet when the server stops."""
    async with serving(tmp_path) as server:
        server.publish(*(instance("many", f"10.0.{i // 250}.{i % 250}") for i in range(2000)))
        stream = await server.connect()
        await stream.send(*numbered(30, "many.docker"))
        first = await stream.receive()
        assert server.app.server is not None
        end = server.app.server.tcp[0].stop()
        stopping = asyncio.get_running_loop().create_task(end, name="stopping")
        got = [first, *[await stream.receive() for _ in range(29)]]
        assert await stream.ended()
        await stopping
    assert [int.from_bytes(reply[:2], "big") for reply in got] == list(range(30))


async def test_at_the_end_who_does_not_read_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "LAST_SECONDS", 0.2)
    async with serving(tmp_path) as server:
        server.publish(*(instance("many", f"10.0.{i // 250}.{i % 250}") for i in range(2000)))
        stream = await server.connect()
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stream.send(*numbered(1000, "many.docker"))
        await until_async(lambda: limits(server).held > 0)
        assert server.app.server is not None
        await server.app.server.tcp[0].stop()
        assert not connections(server)
        await stream.close()
