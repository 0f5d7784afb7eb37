"""A real NSD as a secondary: it takes the zone over, and again after every change it is told of."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from tests.dns.serving import instance, query, records, serving
from tests.real.conftest import or_left_out
from tests.real.nsd import Nsd
from tests.wait import INTERVAL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dns.serving import Serving

#: Seconds for a zone to get there.
TIMEOUT = 30.0
ZONES = ("docker", "second.example")


async def ask(nsd: Nsd, asked: dns.message.Message) -> dns.message.Message | None:
    try:
        return await dns.asyncquery.udp(asked, "127.0.0.1", port=nsd.port, timeout=1)
    except (dns.exception.Timeout, OSError):
        assert nsd.running(), nsd.log
        return None


async def addresses(nsd: Nsd, name: str) -> set[str] | None:
    """What NSD says a name's addresses are; None while it says nothing."""
    reply = await ask(nsd, query(name))
    if reply is None or reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None
    return set(records(reply, "A"))


async def in_step(nsd: Nsd, name: str, expected: set[str]) -> None:
    end = time.monotonic() + TIMEOUT
    while (said := await addresses(nsd, name)) != expected:
        assert time.monotonic() < end, f"{name} is {said} and not {expected}; NSD's log:\n{nsd.log}"
        await asyncio.sleep(INTERVAL)


async def notify(nsd: Nsd, server: Serving, zone: str) -> None:
    """NOTIFY (RFC 1996), which discoverd does not send itself: a secondary looks by itself each minute."""
    soa = await server.ask(query(zone, "SOA"))
    told = dns.message.make_query(zone, "SOA")
    told.flags = dns.flags.AA
    told.set_opcode(dns.opcode.NOTIFY)
    told.answer = soa.answer
    reply = await ask(nsd, told)
    assert reply is not None
    assert reply.rcode() == dns.rcode.NOERROR


async def test_a_secondary_is_fed(tmp_path: Path) -> None:
    async with serving(tmp_path, domain=list(ZONES)) as server:
        server.publish(instance("web", "192.0.2.1"), instance("web", "192.0.2.2"))
        with or_left_out():
            nsd = Nsd(tmp_path / "nsd", server.port, *ZONES)
        try:
            for zone in ZONES:
                await in_step(nsd, f"web.{zone}", {"192.0.2.1", "192.0.2.2"})
                await in_step(nsd, f"nobody.{zone}", set())
            server.publish(instance("web", "192.0.2.3"), instance("new", "192.0.2.4"))
            for zone in ZONES:
                await notify(nsd, server, zone)
                await in_step(nsd, f"web.{zone}", {"192.0.2.3"})
                await in_step(nsd, f"new.{zone}", {"192.0.2.4"})
        finally:
            nsd.close()


async def test_a_large_zone_reaches_a_secondary_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.publish(
            *(instance(f"s{i}", f"10.{i // 250}.0.{i % 250}", ports=(80, 443)) for i in range(1500))
        )
        with or_left_out():
            nsd = Nsd(tmp_path / "nsd", server.port, "docker")
        try:
            await in_step(nsd, "s1499.docker", {"10.5.0.249"})
            for i in range(0, 1500, 100):
                assert await addresses(nsd, f"s{i}.docker") == {f"10.{i // 250}.0.{i % 250}"}
        finally:
            nsd.close()
