"""What is never asked of others, and never given to whom it must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.model import Port
from tests.dns.serving import TIMEOUT, instance, query, records, serving
from tests.upstream import answer, scripted

if TYPE_CHECKING:
    from pathlib import Path

OURS = (
    "docker", "web.docker", "1.web.docker", "nobody.docker", "a.b.c.docker", "web", "ns.docker",
    "_http._tcp.web.docker", "_tcp.web.docker", "b._dns-sd._udp.docker", "5.0.77.10.in-addr.arpa",
)  # fmt: skip
TYPES = (
    "A", "AAAA", "NS", "SOA", "MX", "TXT", "SRV", "PTR", "CNAME", "DNAME", "DS", "DNSKEY", "NSEC", "RRSIG",
    "HTTPS", "SVCB", "CAA", "NAPTR", "TLSA", "LOC", "TYPE65280", "ANY",
)  # fmt: skip


def asking(name: str, rtype: str = "A") -> dns.message.Message:
    made = query(name, rtype)
    made.flags |= dns.flags.RD
    return made


@pytest.mark.parametrize("name", OURS)
async def test_a_name_of_ours_is_asked_of_nobody_whatever_the_type(tmp_path: Path, name: str) -> None:
    """DS as well, which other servers look for with the parent (RFC 4035 section 3.1.4.1)."""
    async with scripted() as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        server.publish(instance("web", "10.77.0.5", ports=[Port(80, name="http")]))
        for rtype in TYPES:
            reply = await server.ask(asking(name, rtype))
            assert reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN), rtype
            assert reply.answer or reply.authority, rtype
            assert reply.flags & dns.flags.AA, rtype
    assert not upstream.seen


async def test_what_is_kept_is_not_given_to_whom_it_is_refused(tmp_path: Path) -> None:
    """Neither out of the cache nor by the fast path."""

    async def ask(source: str, *, tcp: bool = False) -> dns.message.Message:
        exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        asked = asking("www.example.com")
        return await exchange(asked, server.host, timeout=TIMEOUT, port=server.port, source=source)

    async with (
        scripted() as upstream,
        serving(tmp_path, upstream=[upstream.where], allow_recursion=["127.0.0.2/32"]) as server,
    ):
        for _ in range(4):
            may, may_not = await ask("127.0.0.2"), await ask("127.0.0.1")
            assert records(may, "A") == ["198.51.0.1"]
            for refused in (may_not, await ask("127.0.0.1", tcp=True)):
                assert refused.rcode() == dns.rcode.REFUSED
                assert not refused.answer
                assert not refused.flags & dns.flags.RA
    assert len(upstream.seen) == 1


async def test_a_ttl_with_its_highest_bit_set_counts_as_none(tmp_path: Path) -> None:
    """RFC 2181 section 8."""
    large = (1 << 31).to_bytes(4, "big")

    def signed(packet: bytes) -> list[bytes]:
        return [answer(packet, ttl=123_456).replace((123_456).to_bytes(4, "big"), large)]

    async with scripted(signed) as upstream, serving(tmp_path, upstream=[upstream.where]) as server:
        for number in (1, 2):
            assert records(await server.ask(asking("www.example.com")), "A") == ["198.51.0.1"]
            assert len(upstream.seen) == number
