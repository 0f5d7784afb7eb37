"""Zone transfers on real sockets: what is in them, who gets them, and what goes on beside them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.xfr
import dns.zone
import pytest

from discoverd.dns import message, tcp, transfer
from discoverd.model import Address, Health, Link, Port, SourceState, State
from discoverd.resolver import zone
from discoverd.views import Place, View
from tests.dns.serving import TIMEOUT, framed, instance, options, query, records, serving
from tests.wait import until_async

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dns.serving import Serving, Stream

IN = dns.rdataclass.IN


async def transferred(server: Serving, zone: str = "docker") -> dns.zone.Zone:
    """The zone as dnspython takes it over: it raises where anything is not as RFC 5936 says."""
    made = dns.zone.Zone(zone, relativize=False)
    await dns.asyncquery.inbound_xfr(server.host, made, port=server.port, timeout=30)
    return made


def data(zone: dns.zone.Zone, name: str, rtype: str) -> set[str]:
    found = zone.get_rdataset(dns.name.from_text(name), rtype)
    return {str(r) for r in found} if found else set()


def asked(rtype: str, zone: str = "docker", serial: int | None = None, **edns: Any) -> dns.message.Message:
    made = query(zone, rtype, **edns)
    if serial is not None:
        soa = f"{zone}. 0 IN SOA . . {serial} 0 0 0 0"
        made.authority.append(dns.rrset.from_text(f"{zone}.", 0, "IN", "SOA", soa.split(None, 4)[4]))
    return made


async def serial_of(server: Serving) -> int:
    return int(records(await server.ask(query("docker", "SOA")), "SOA")[0].split()[2])


# -- what is in it --------------------------------------------------------------------------


async def test_a_zone_holds_every_name_with_its_records(server: Serving) -> None:
    made = await transferred(server)
    three = {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    for name in ("web.docker.", "web.shop.docker.", "all.web.docker.", "all.web.shop.docker."):
        assert data(made, name, "A") == three
        assert data(made, name, "TXT") == {'"path=/"'}
        assert len(data(made, name, "SRV")) == 6
    assert data(made, "2.web.shop.docker.", "A") == {"192.0.2.2"}
    assert data(made, "six.docker.", "AAAA") == {"2001:db8::6"}
    assert data(made, "*.wild.docker.", "A") == {"192.0.2.9"}
    assert data(made, "deep.below.here.docker.", "A") == {"192.0.2.9"}
    assert data(made, "web-192-0-2-1.docker.", "A") == {"192.0.2.1"}
    assert data(made, "_8080._tcp.web.docker.", "SRV") == {
        f"0 256 8080 web-192-0-2-{i}.docker." for i in (1, 2, 3)
    }
    assert len(data(made, "_http._tcp.web.docker.", "SRV")) == 6
    assert data(made, "_https._tcp.six.docker.", "SRV") == {"0 256 443 six-2001-db8--6.docker."}
    assert data(made, "docker.", "NS") == {"ns.docker."}
    assert data(made, "ns.docker.", "A") == {server.host}
    assert data(made, "_services._dns-sd._udp.docker.", "PTR") == {
        "_http._tcp.docker.",
        "_http-alt._tcp.docker.",
        "_https._tcp.docker.",
    }
    assert data(made, "b._dns-sd._udp.docker.", "PTR") == {"docker."}
    assert data(made, "_https._tcp.docker.", "PTR") == {"six-2001-db8--6._https._tcp.docker."}
    assert data(made, "six-2001-db8--6._https._tcp.docker.", "SRV") == {"0 256 443 six-2001-db8--6.docker."}
    assert data(made, "six-2001-db8--6._https._tcp.docker.", "TXT") == {'""'}


async def test_every_record_is_what_a_query_for_it_is_answered_with(server: Serving) -> None:
    server.publish(
        instance("web", "192.0.2.1", "2001:db8::1", ports=(Port(80, name="front", published=8000),), ttl=7),
        instance("web", "192.0.2.2", weight=3, tags=("v2",), meta=(("a", "b"),)),
        instance("sick", "192.0.2.3", health=Health.UNHEALTHY),
        instance("wild", "192.0.2.4", extra_names=("*.deep.wild",), ports=(53, Port(53, "udp"))),
    )
    made = await transferred(server)
    count = 0
    for name, rdataset in made.iterate_rdatasets():
        over = name.to_text().replace("*", "anything")
        reply = await server.ask(query(over, dns.rdatatype.to_text(rdataset.rdtype)))
        assert len(reply.answer) == 1, over
        assert reply.answer[0].to_rdataset() == rdataset, over
        assert reply.answer[0].ttl == rdataset.ttl
        count += 1
    assert count > 50


async def test_a_port_goes_by_its_usual_name_beside_the_one_it_was_given(server: Serving) -> None:
    """As far as a query for it is answered: a name that was given to another port is that port's alone."""
    two = (Port(8081, name="http"), Port(80, name="ui"))
    server.publish(
        instance("one", "192.0.2.1", ports=(Port(80, name="ui"),)), instance("two", "192.0.2.2", ports=two)
    )
    made = await transferred(server)
    for label in ("_ui", "_http", "_80"):
        assert data(made, f"{label}._tcp.one.docker.", "SRV") == {"0 256 80 one-192-0-2-1.docker."}
    assert data(made, "_http._tcp.two.docker.", "SRV") == {"0 256 8081 two-192-0-2-2.docker."}
    for label in ("_ui", "_http"):
        asked = await server.ask(query(f"{label}._tcp.two.docker", "SRV"))
        assert set(records(asked, "SRV")) == data(made, f"{label}._tcp.two.docker.", "SRV")


async def test_who_is_not_served_is_not_in_the_zone(server: Serving) -> None:
    server.publish(
        instance("web", "192.0.2.1"),
        instance("web", "192.0.2.2", health=Health.UNHEALTHY),
        instance("web", "192.0.2.3", state=State.PAUSED),
    )
    made = await transferred(server)
    assert data(made, "web.docker.", "A") == {"192.0.2.1"}
    assert data(made, "all.web.docker.", "A") == {"192.0.2.1", "192.0.2.2"}


async def test_an_empty_domain_is_a_zone_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        made = await transferred(server)
    assert {n.to_text() for n in made} >= {"docker.", "ns.docker."}


async def test_each_domain_is_a_zone_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path, domain=["docker", "sub.docker", "other.example"]) as server:
        server.publish(instance("web", "192.0.2.1", extra_names=("host.sub",)))
        outer, inner, other = [await transferred(server, z) for z in server.app.config.domains]
    assert data(outer, "web.docker.", "A") == data(inner, "web.sub.docker.", "A") == {"192.0.2.1"}
    assert data(inner, "host.sub.sub.docker.", "A") == {"192.0.2.1"}
    assert data(other, "host.sub.other.example.", "A") == {"192.0.2.1"}
    # host.sub.docker is a name in sub.docker, where nobody has it
    assert not data(outer, "host.sub.docker.", "A")


async def test_a_large_zone_takes_many_messages(server: Serving) -> None:
    server.publish(*(instance(f"s{i}", f"10.0.0.{i}", ports=(80,)) for i in range(100)))
    stream = await server.connect()
    await stream.send(asked("AXFR", use_edns=0).to_wire())
    ids, sizes, soas, total = set(), [], 0, 0
    while soas < 2:
        octets = await stream.receive()
        part = dns.message.from_wire(octets, one_rr_per_rrset=True)
        assert part.rcode() == dns.rcode.NOERROR
        assert part.flags & (dns.flags.AA | dns.flags.TC | dns.flags.RA) == dns.flags.AA
        assert not part.authority
        assert part.edns == 0
        ids.add(part.id)
        sizes.append(len(octets))
        kinds = [r.rdtype for r in part.answer]
        soas += kinds.count(dns.rdatatype.SOA)
        total += len(kinds)
    assert kinds[-1] == dns.rdatatype.SOA
    assert total == 1508  # fifteen records for each, and eight of the domain's own
    assert len(ids) == 1
    assert len(sizes) > 3
    assert all(transfer.MESSAGE_SIZE // 2 < size <= transfer.MESSAGE_SIZE for size in sizes[:-1])
    await stream.close()


async def test_a_record_larger_than_a_message_goes_alone(server: Serving) -> None:
    meta = tuple((f"key{i}", "x" * 240) for i in range(100))
    server.publish(instance("big", "192.0.2.1", meta=meta), instance("small", "192.0.2.2"))
    made = await transferred(server)
    (found,) = made.find_rdataset(dns.name.from_text("big.docker."), "TXT")
    assert len(found.strings) == 100
    assert data(made, "small.docker.", "A") == {"192.0.2.2"}


async def test_a_change_during_a_transfer_is_not_in_it(server: Serving) -> None:
    before = [instance(f"s{i}", f"10.0.{i // 250}.{i % 250}") for i in range(400)]
    server.publish(*before)
    serial = await serial_of(server)
    stream = await server.connect()
    await stream.send(asked("AXFR").to_wire())
    first = await stream.receive()
    server.publish(instance("new", "192.0.2.1"))
    assert await serial_of(server) > serial
    made = dns.zone.Zone("docker", relativize=False)
    with dns.xfr.Inbound(made, dns.rdatatype.AXFR) as inbound:
        done = inbound.process_message(dns.message.from_wire(first, xfr=True, one_rr_per_rrset=True))
        while not done:
            octets = await stream.receive()
            done = inbound.process_message(dns.message.from_wire(octets, xfr=True, one_rr_per_rrset=True))
    assert made.get_soa().serial == serial
    assert not data(made, "new.docker.", "A")
    assert all(data(made, f"s{i}.docker.", "A") for i in range(400))
    await stream.close()


async def test_a_zone_is_what_its_asker_sees(tmp_path: Path) -> None:
    """Askers in a container network get its addresses and their own links, as with any query."""
    async with serving(tmp_path) as server:
        web = instance("web", "192.0.2.1", "10.9.0.1")
        there = Address(ip_address("10.9.0.1"), "net", "net-id")
        view = View(
            Place.NETWORK, networks=frozenset({"net-id"}), links=(Link("talkto", "web"),), source="test"
        )
        server.publish(replace(web, addresses=(Address(ip_address("192.0.2.1"), "far", "far-id"), there)))
        found = {
            (r.owner, r.data)
            for r in zone.records(server.app.local, "docker", view, None)
            if r is not None and r.type == 1
        }
        from_the_host = await transferred(server)
    assert {name for name, _ in found} >= {"web.docker", "talkto.docker"}
    assert {ip for _, ip in found} == {ip_address("10.9.0.1")}
    assert data(from_the_host, "web.docker.", "A") == {"192.0.2.1"}
    assert not data(from_the_host, "talkto.docker.", "A")


# -- who gets it ----------------------------------------------------------------------------


async def refused(server: Serving, rcode: int, made: dns.message.Message, *, tcp: bool = True) -> None:
    reply = await server.ask(made, tcp=tcp)
    assert reply.rcode() == rcode
    assert not reply.answer
    assert not reply.flags & dns.flags.AA


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
async def test_who_is_not_allowed_is_refused(tmp_path: Path, rtype: str) -> None:
    config = '[dns]\nallow_transfer = ["192.0.2.0/24"]\n'
    async with serving(tmp_path, config) as server:
        for over_tcp in (False, True):
            await refused(server, dns.rcode.REFUSED, asked(rtype, serial=1), tcp=over_tcp)


async def test_who_is_allowed_gets_it(tmp_path: Path) -> None:
    config = '[dns]\nallow_transfer = ["127.0.0.0/30"]\n'
    async with serving(tmp_path, config) as server:
        assert data(await transferred(server), "docker.", "NS")
        sock = await asyncio.open_connection(server.host, server.port, local_addr=("127.0.0.77", 0))
        sock[1].write(framed(asked("AXFR").to_wire()))
        length = int.from_bytes(await sock[0].readexactly(2), "big")
        reply = dns.message.from_wire(await sock[0].readexactly(length))
        assert reply.rcode() == dns.rcode.REFUSED
        sock[1].close()


@pytest.mark.parametrize("zone", ["web.docker", "example", ".", "2.0.192.in-addr.arpa"])
async def test_what_is_no_zone_of_ours_is_notauth(server: Serving, zone: str) -> None:
    """RFC 5936 section 2.2.1."""
    await refused(server, dns.rcode.NOTAUTH, asked("AXFR", zone))


async def test_a_zone_that_is_not_known_in_full_is_servfail(server: Serving) -> None:
    """A secondary would deny what a source has yet to tell."""
    writer = server.app.registry.writer("late", "test")
    await refused(server, dns.rcode.SERVFAIL, asked("AXFR"))
    writer.status(SourceState.LIVE)
    assert data(await transferred(server), "docker.", "NS")


async def test_transfers_are_limited_in_all(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "TRANSFERS_MOST", 1)
    server.publish(*(instance(f"s{i}", f"10.0.{i // 250}.{i % 250}", ports=(80,)) for i in range(400)))
    first = await server.connect()
    await first.send(asked("AXFR").to_wire())
    assert await first.receive()
    await refused(server, dns.rcode.SERVFAIL, asked("AXFR"))
    await first.close()
    assert server.app.server is not None
    limits = server.app.server.tcp[0].limits
    await until_async(lambda: limits.transfers == 0)
    last = await server.connect()
    await last.send(asked("AXFR").to_wire())
    await receive_all(last)
    await last.close()
    assert limits.transfers == 0


async def test_axfr_over_udp_is_refused(server: Serving) -> None:
    """RFC 5936 section 4.2: it is not defined there."""
    await refused(server, dns.rcode.REFUSED, asked("AXFR"), tcp=False)


# -- IXFR -----------------------------------------------------------------------------------


async def test_ixfr_to_who_is_current_is_one_soa_record(server: Serving) -> None:
    """RFC 1995 section 2, and for a serial that is ahead of ours by RFC 1982."""
    serial = await serial_of(server)
    for known in (serial, serial + 1, (serial + 2**31 - 1) % 2**32):
        for over_tcp in (False, True):
            reply = await server.ask(asked("IXFR", serial=known), tcp=over_tcp)
            assert len(reply.answer) == 1
            assert int(records(reply, "SOA")[0].split()[2]) == serial


async def test_ixfr_to_who_is_behind_is_the_whole_zone(server: Serving) -> None:
    serial = await serial_of(server)
    for known in (serial - 1, (serial + 2**31) % 2**32):
        made = dns.zone.Zone("docker", relativize=False)
        stream = await server.connect()
        await stream.send(asked("IXFR", serial=known).to_wire())
        with dns.xfr.Inbound(made, dns.rdatatype.IXFR, known) as inbound:
            octets = await stream.receive()
            assert inbound.process_message(dns.message.from_wire(octets, xfr=True, one_rr_per_rrset=True))
        assert len(data(made, "web.docker.", "A")) == 3
        await stream.close()


async def test_ixfr_over_udp_says_to_come_by_tcp(server: Serving) -> None:
    """RFC 1995 section 2: the SOA record alone, which is newer than what the asker has."""
    serial = await serial_of(server)
    reply = await server.ask(asked("IXFR", serial=serial - 1))
    assert [r.rdtype for r in reply.answer] == [dns.rdatatype.SOA]
    assert not reply.flags & dns.flags.TC


@pytest.mark.parametrize(
    ("authority", "behind"),
    [
        (0, b""),
        (1, b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4"),
        (1, b"\xc0\x0c\0\6\0\1\0\0\0\0\0\2\0\0"),
        (1, b"\xc0\x0c\0\6\0\1\0\0\0\0\0\5\0\0\1\2\3"),
    ],
    ids=["none", "another record", "without a serial", "cut off"],
)
async def test_ixfr_without_a_serial_is_formerr(server: Serving, authority: int, behind: bytes) -> None:
    packet = message.HEADER.pack(7, 0, 1, 0, authority, 0) + b"\6docker\0\0\xfb\0\1" + behind
    stream = await server.connect()
    await stream.send(packet)
    reply = dns.message.from_wire(await stream.receive())
    assert (reply.id, reply.rcode()) == (7, dns.rcode.FORMERR)
    assert reply.question
    await stream.close()


async def test_the_serial_grows_with_every_change(server: Serving) -> None:
    seen = [await serial_of(server)]
    for i in range(5):
        server.publish(instance("web", f"192.0.2.{i}"))
        seen.append(await serial_of(server))
    assert seen == sorted(set(seen))


# -- beside it ------------------------------------------------------------------------------


async def receive_all(stream: Stream) -> set[int]:
    """A whole transfer, unread: the ids of its messages."""
    ids, soas = set(), 0
    while soas < 2:
        octets = await stream.receive()
        ids.add(int.from_bytes(octets[:2], "big"))
        soas += octets.count(b"\nhostmaster")
    return ids


async def test_queries_behind_a_transfer_are_answered_behind_it(server: Serving) -> None:
    server.publish(*(instance(f"s{i}", f"10.0.{i // 250}.{i % 250}") for i in range(400)))
    stream = await server.connect()
    before, axfr, after = query("s1.docker"), asked("AXFR"), query("s2.docker")
    again = asked("AXFR")
    await stream.send(*(q.to_wire() for q in (before, axfr, after, again)))
    assert (dns.message.from_wire(await stream.receive())).id == before.id
    assert await receive_all(stream) == {axfr.id}
    assert (dns.message.from_wire(await stream.receive())).id == after.id
    assert await receive_all(stream) == {again.id}
    await stream.close()


async def test_a_half_closed_client_gets_the_whole_zone(server: Serving) -> None:
    server.publish(*(instance(f"s{i}", f"10.0.{i // 250}.{i % 250}") for i in range(400)))
    stream = await server.connect()
    await stream.send(asked("AXFR").to_wire())
    stream.writer.write_eof()
    assert await receive_all(stream)
    assert await stream.ended()


async def test_others_are_answered_during_a_transfer(server: Serving) -> None:
    server.publish(*(instance(f"s{i}", f"10.0.{i // 250}.{i % 250}", ports=(80,)) for i in range(1000)))
    stream = await server.connect()
    await stream.send(asked("AXFR").to_wire())
    answered = 0
    loop = asyncio.get_running_loop()
    receiving = loop.create_task(receive_all(stream), name="receiving")
    while not receiving.done():
        assert len(records(await server.ask(query(f"s{answered}.docker")), "A")) == 1
        answered += 1
    await receiving
    assert answered > 20
    await stream.close()


async def test_who_does_not_read_holds_up_nobody(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "IDLE_SECONDS", 0.5)
    server.publish(
        *(instance(f"s{i}", f"10.0.{i // 250}.{i % 250}", ports=(80, 81, 82)) for i in range(2000))
    )
    assert server.app.server is not None
    endpoint = server.app.server.tcp[0]
    stuck = await server.connect()
    stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await stuck.send(asked("AXFR").to_wire())
    await until_async(lambda: endpoint.limits.transfers == 1)
    async with asyncio.timeout(TIMEOUT):
        assert len(records(await server.ask(query("s1.docker"), tcp=True), "A")) == 1
    await until_async(lambda: not endpoint.connections, timeout=60)
    assert endpoint.limits.transfers == 0
    await stuck.close()


async def test_a_transfer_that_fails_says_so_at_its_end(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 5936 section 2.2: an error message ends it; the server goes on."""

    def broken(*_: Any) -> Any:
        yield None
        raise ZeroDivisionError

    monkeypatch.setattr("discoverd.resolver.zone.records", broken)
    reply = await server.ask(asked("AXFR", use_edns=0), tcp=True)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert reply.question
    assert not options(reply)
    assert "the transfer of docker ends here" in caplog.text
    monkeypatch.undo()
    assert data(await transferred(server), "docker.", "NS")
