"""RFC 8906 section 8, test by test: the dig command of each section as a message, and what it expects.

Each query is asked by UDP until it is answered ready made, and by TCP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.dns.serving import COOKIE, NSID, instance, option, query, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dns.serving import Serving

ZONE = "docker"
#: The last unassigned bit of the header, and one of EDNS.
MBZ, EDNS_MBZ = 0x40, 0x40
UNKNOWN = option(100, b"unknown")


def soa_expected(reply: dns.message.Message) -> None:
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(records(reply, "SOA")) == 1
    assert reply.flags & dns.flags.AA


def badvers_expected(reply: dns.message.Message) -> None:
    assert reply.rcode() == dns.rcode.BADVERS
    assert not reply.answer
    assert not reply.flags & dns.flags.AA


def edns_expected(reply: dns.message.Message) -> None:
    assert reply.edns == 0
    assert not reply.ednsflags & 0x7FFF, "MBZ bits"
    assert not reply.options


async def check(
    server: Serving, asked: dns.message.Message, *expected: Callable[[dns.message.Message], None]
) -> None:
    for reply in await server.ask_again(asked):
        assert not reply.flags & MBZ
        assert not reply.flags & (dns.flags.AD | dns.flags.CD)
        for each in expected:
            each(reply)
        if asked.edns < 0:
            assert reply.edns < 0


async def test_8_1_1_is_the_server_configured_for_the_zone(server: Serving) -> None:
    await check(server, query(ZONE, "SOA"), soa_expected)


async def test_8_1_2_unknown_types(server: Serving) -> None:
    def empty(reply: dns.message.Message) -> None:
        assert reply.rcode() == dns.rcode.NOERROR
        assert not reply.answer
        assert reply.flags & dns.flags.AA
        assert len(records(reply, "SOA", "authority")) == 1

    await check(server, query(ZONE, "TYPE1000"), empty)
    await check(server, query("web.docker", "TYPE1000"), empty)


async def test_8_1_3_1_cd(server: Serving) -> None:
    asked = query(ZONE, "SOA")
    asked.flags |= dns.flags.CD
    await check(server, asked, soa_expected)


async def test_8_1_3_2_ad(server: Serving) -> None:
    asked = query(ZONE, "SOA")
    asked.flags |= dns.flags.AD
    await check(server, asked, soa_expected)


async def test_8_1_3_3_reserved_bit(server: Serving) -> None:
    asked = query(ZONE, "SOA")
    asked.flags |= MBZ
    await check(server, asked, soa_expected)


async def test_8_1_3_4_recursive_queries(server: Serving) -> None:
    asked = query(ZONE, "SOA")
    asked.flags |= dns.flags.RD

    def rd_echoed(reply: dns.message.Message) -> None:
        assert reply.flags & dns.flags.RD
        assert not reply.flags & dns.flags.RA, "nobody is there to recurse"

    await check(server, asked, soa_expected, rd_echoed)


@pytest.mark.parametrize("opcode", range(1, 16))
async def test_8_1_4_unknown_opcodes(server: Serving, opcode: int) -> None:
    """A header is all that may be relied on, and all that comes back."""
    head = b"\x12\x34" + (opcode << 11).to_bytes(2, "big") + bytes(8)
    stream = await server.connect()
    for sent in (head, head + b"\0", head[:-8] + b"\xff" * 30):
        await stream.send(sent)
        for reply in (await server.octets(sent), await stream.receive()):
            message = dns.message.from_wire(reply)
            assert message.id == 0x1234
            assert message.rcode() == dns.rcode.NOTIMP
            assert message.flags == dns.flags.QR | opcode << 11 | dns.rcode.NOTIMP
            assert len(reply) == 12
    await stream.close()


async def test_8_1_5_tcp(server: Serving) -> None:
    soa_expected(await server.ask(query(ZONE, "SOA"), tcp=True))


async def test_8_2_1_minimal_edns(server: Serving) -> None:
    await check(server, query(ZONE, "SOA", use_edns=0), soa_expected, edns_expected)


async def test_8_2_2_version_negotiation(server: Serving) -> None:
    await check(server, query(ZONE, "SOA", use_edns=1), badvers_expected, edns_expected)


async def test_8_2_3_unknown_options(server: Serving) -> None:
    await check(server, query(ZONE, "SOA", options=[UNKNOWN]), soa_expected, edns_expected)


async def test_8_2_4_unknown_flags(server: Serving) -> None:
    await check(server, query(ZONE, "SOA", use_edns=0, ednsflags=EDNS_MBZ), soa_expected, edns_expected)


async def test_8_2_5_version_negotiation_with_unknown_flags(server: Serving) -> None:
    asked = query(ZONE, "SOA", use_edns=1, ednsflags=EDNS_MBZ)
    await check(server, asked, badvers_expected, edns_expected)


async def test_8_2_6_version_negotiation_with_unknown_options(server: Serving) -> None:
    await check(server, query(ZONE, "SOA", use_edns=1, options=[UNKNOWN]), badvers_expected, edns_expected)


async def test_8_2_7_truncated_responses(server: Serving) -> None:
    """dig +dnssec +bufsize=512 +ignore dnskey: an OPT record stands in a truncated reply as well."""
    many = [f"192.0.2.{i}" for i in range(1, 101)]
    server.publish(*(instance("many", ip) for ip in many))
    asked = query("many.docker", "A", use_edns=0, payload=512, want_dnssec=True)
    for _ in range(3):
        reply = await server.ask(asked)
        assert reply.rcode() == dns.rcode.NOERROR
        assert reply.flags & dns.flags.TC
        assert reply.flags & dns.flags.AA
        edns_expected(reply)


async def test_8_2_8_do(server: Serving) -> None:
    """RFC 3225 section 3: "The DO bit of the query MUST be copied in the response"."""

    def copied(reply: dns.message.Message) -> None:
        assert reply.ednsflags & dns.flags.DO

    await check(server, query(ZONE, "SOA", want_dnssec=True), soa_expected, edns_expected, copied)


async def test_8_2_9_version_negotiation_with_do(server: Serving) -> None:
    def copied(reply: dns.message.Message) -> None:
        assert reply.ednsflags & dns.flags.DO, "as with version 0"

    asked = query(ZONE, "SOA", use_edns=1, want_dnssec=True)
    await check(server, asked, badvers_expected, edns_expected, copied)


async def test_8_2_10_multiple_defined_options(server: Serving) -> None:
    asked = query(
        ZONE,
        "SOA",
        options=[
            option(NSID, b""),
            option(9, b""),  # EXPIRE, RFC 7314
            dns.edns.ECSOption("0.0.0.0", 0, 0),
            option(COOKIE, b"12345678"),
        ],
    )
    for reply in await server.ask_again(asked):
        soa_expected(reply)
        assert reply.edns == 0
        assert {o.otype for o in reply.options} <= {NSID, COOKIE}
