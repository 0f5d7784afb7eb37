"""Names of others: what is asked of an upstream server, and what the asker gets of its reply."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.dns import message
from discoverd.dns.foreign import Foreign
from discoverd.resolver.upstreams.query import HOPS
from tests.dns.serving import COOKIE, NSID, option, options, query, records, serving
from tests.fuzz.invariants import check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.dns.serving import Serving


class Upstream(asyncio.DatagramProtocol):
    """A name server that keeps what it is asked, and answers with what ``reply`` makes of it."""

    def __init__(self) -> None:
        self.asked: list[dns.message.Message] = []
        self.reply: Callable[[dns.message.Message], bytes] = answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = dns.message.from_wire(data)
        self.asked.append(asked)
        self.transport.sendto(self.reply(asked), addr)


def answered(asked: dns.message.Message, *, count: int = 1, **edns: Any) -> bytes:
    reply = dns.message.make_response(asked, recursion_available=True)
    addresses = [f"198.51.{i // 250}.{i % 250}" for i in range(count)]
    reply.answer.append(dns.rrset.from_text_list(asked.question[0].name, 300, "IN", "A", addresses))
    if asked.edns >= 0:
        reply.use_edns(0, payload=4096, **edns)
    return reply.to_wire(max_size=65535)


@asynccontextmanager
async def behind(folder: Path) -> AsyncIterator[tuple[Serving, Upstream]]:
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.1", 0))
    try:
        where = "{}:{}".format(*transport.get_extra_info("sockname")[:2])
        async with serving(folder, upstream=[where]) as server:
            yield server, upstream
    finally:
        transport.close()


def foreign_query(name: str = "ExAmple.com", **edns: Any) -> dns.message.Message:
    made = query(name, **edns)
    made.flags |= dns.flags.RD
    return made


async def test_the_asker_gets_the_answer(tmp_path: Path) -> None:
    async with behind(tmp_path) as (server, upstream):
        for tcp in (False, True):
            reply = await server.ask(foreign_query(), tcp=tcp)
            assert records(reply, "A") == ["198.51.0.0"]
            assert reply.answer[0].ttl == 300
            assert reply.flags & dns.flags.RA
            assert not reply.flags & dns.flags.AA
            assert reply.edns == -1
    assert all(not a.flags & 0xF04F for a in upstream.asked)


async def test_neither_opt_record_is_passed_on(tmp_path: Path) -> None:
    """RFC 6891 section 6.1.1; the asker's cookie and NSID are ours to answer, the upstream's are not."""
    wanted = [option(COOKIE, b"12345678"), option(NSID, b""), option(65001, b"x")]
    async with behind(tmp_path) as (server, upstream):
        upstream.reply = lambda asked: answered(
            asked, options=[option(NSID, b"upstream"), option(15, b"\0\0")]
        )
        reply = await server.ask(foreign_query(options=wanted, want_dnssec=True))
    assert records(reply, "A") == ["198.51.0.0"]
    assert reply.payload == 1232
    assert reply.ednsflags == dns.flags.DO
    assert options(reply).keys() == {COOKIE, NSID}
    assert options(reply)[NSID].startswith(b"discoverd ")
    assert options(reply)[COOKIE][:8] == b"12345678"
    (asked,) = upstream.asked
    assert options(asked).keys() == {HOPS}
    assert asked.ednsflags == dns.flags.DO
    assert asked.payload == 1232


async def test_flags_that_mean_nothing_to_a_resolver_are_not_passed_on(tmp_path: Path) -> None:
    async with behind(tmp_path) as (server, upstream):
        asked = foreign_query()
        asked.flags |= 0x7F0
        await server.ask(asked)
    (passed,) = upstream.asked
    assert passed.flags == dns.flags.RD | dns.flags.AD | dns.flags.CD


async def test_the_question_comes_back_as_it_was_asked(tmp_path: Path) -> None:
    def lowered(asked: dns.message.Message) -> bytes:
        octets = answered(asked)
        end = 12 + len("example.com") + 2
        return octets[:12] + octets[12:end].lower() + octets[end:]

    async with behind(tmp_path) as (server, upstream):
        upstream.reply = lowered
        reply = await server.octets(foreign_query("ExAmPlE.cOm").to_wire())
    assert b"\7ExAmPlE\3cOm\0" in reply


async def test_what_our_options_leave_no_room_for_is_cut_off(tmp_path: Path) -> None:
    """An upstream server that gives more than it was asked for."""
    async with behind(tmp_path) as (server, upstream):
        upstream.reply = lambda asked: answered(asked, count=100)
        for edns, most in (
            ({}, 512),
            ({"payload": 600}, 600),
            ({"options": [option(COOKIE, b"x" * 8)]}, 1232),
        ):
            reply = await server.ask(foreign_query(**edns))
            assert reply.flags & dns.flags.TC
            assert most - 16 < len(reply.to_wire()) <= most, "as many as fit"
        assert len(records(await server.ask(foreign_query(), tcp=True), "A")) == 100


async def test_an_extended_rcode_gets_through(tmp_path: Path) -> None:
    def bad(asked: dns.message.Message) -> bytes:
        reply = dns.message.make_response(asked)
        reply.use_edns(0)
        reply.set_rcode(dns.rcode.BADCOOKIE)
        return reply.to_wire()

    async with behind(tmp_path) as (server, upstream):
        upstream.reply = bad
        assert (await server.ask(foreign_query(use_edns=0))).rcode() == dns.rcode.BADCOOKIE


async def test_a_reply_that_cannot_be_read_is_servfail(tmp_path: Path) -> None:
    async with behind(tmp_path) as (server, upstream):
        upstream.reply = lambda asked: answered(asked)[:-3]
        for asked in (foreign_query(), foreign_query(use_edns=0)):
            reply = await server.ask(asked)
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert reply.edns == asked.edns


async def test_opt_before_other_records_is_taken_out(tmp_path: Path) -> None:
    """Some servers put it first. What stands behind it goes as well: names in it may be pointed to."""

    def opt_first(asked: dns.message.Message) -> bytes:
        octets = answered(asked)
        glue = b"\3ns1\xc0\x0c\0\1\0\1\0\0\0\5\0\4abcd"
        return octets[:10] + b"\0\2" + octets[12:] + glue

    async with behind(tmp_path) as (server, upstream):
        upstream.reply = opt_first
        reply = await server.ask(foreign_query(use_edns=0))
    assert records(reply, "A") == ["198.51.0.0"]
    assert not reply.additional
    assert reply.payload == 1232


ASKED = foreign_query("a.example", use_edns=0, options=[option(NSID, b"")]).to_wire()


@given(
    st.binary(max_size=80)
    | st.binary(max_size=60).map(lambda rest: ASKED[:2] + b"\x81\x80\0\1\0\1\0\0\0\1" + ASKED[12:] + rest),
    st.sampled_from((512, 65535)),
)
def test_any_reply_becomes_one_that_can_be_read(upstream: bytes, limit: int) -> None:
    """Up to names in record data, which only resolvers know the form of."""
    opt = message.opt(1232, 0, [(NSID, b"us")])
    foreign = Foreign(message.parse(ASKED), limit > 512, 1232, opt, limit)
    reply = foreign.finish(upstream)
    assert reply[:2] == ASKED[:2] or reply[:2] == upstream[:2]
    assert len(reply) <= limit
    assert reply.endswith(opt[6:])
    assert foreign.finish(reply) == reply


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_without_anybody_to_ask_it_is_servfail(tmp_path: Path, tcp: bool) -> None:
    closed = "127.0.0.1:9"
    async with serving(tmp_path, upstream=[closed]) as server:
        asked = foreign_query(options=[option(COOKIE, b"12345678")])
        reply = await server.ask(asked, tcp=tcp)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert COOKIE in options(reply)
    check(asked.to_wire(), reply.to_wire(), tcp=tcp)


def test_what_is_asked_upstream_is_well_formed() -> None:
    for octets in (ASKED, query("example.com").to_wire()):
        foreign = Foreign(message.parse(octets), False, 1232, b"", 512)
        for asked in (foreign.asked.query(b"12345678"), foreign.asked.plain()):
            again = message.parse(b"id" + asked)
            assert again.asked == foreign.query.asked
            assert struct.unpack("!5H", asked[:10])[1:4] == (1, 0, 0)
