"""EDNS beyond RFC 8906's checks: sizes, what stands wrong in OPT, NSID, keepalive."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.config.models import DnsConfig
from discoverd.dns import message
from tests.dns.serving import KEEPALIVE, NSID, instance, option, options, query, records, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dns.serving import Serving

OPT_OF_ROOT = message.opt(1232)


def packet(
    name: str = "web.docker", *, counts: tuple[int, int, int] = (0, 0, 1), behind: bytes = b""
) -> bytes:
    """A query for A with whatever stands behind the question."""
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack("!HHHHHH", 77, 0, 1, *counts) + labels + b"\0\0\1\0\1" + behind


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_1232_octets_are_advertised(server: Serving, tcp: bool) -> None:
    assert (await server.ask(query("web.docker", use_edns=0, payload=4096), tcp=tcp)).payload == 1232


async def test_the_advertised_size_can_be_configured(tmp_path: Path) -> None:
    async with serving(tmp_path, "[dns]\nudp_size = 512\n") as server:
        assert (await server.ask(query("docker", "SOA", use_edns=0))).payload == 512


@pytest.mark.parametrize("size", [0, 1, 511, 512])
async def test_sizes_below_512_are_taken_for_512(server: Serving, size: int) -> None:
    """RFC 6891 section 6.2.3. Thirty addresses take 12 + 17 + 30 * 16 + 11 = 520 octets."""
    server.publish(*(instance("many", f"192.0.2.{i}") for i in range(30)))
    asked = query("many.docker", use_edns=0, payload=size)
    for _ in range(4):
        reply = await server.ask(asked)
        assert reply.flags & dns.flags.TC
        assert len(records(reply, "A")) == 29
        assert len(reply.to_wire()) <= 512


async def test_sizes_above_ours_are_taken_for_ours(server: Serving) -> None:
    server.publish(*(instance("many", f"192.0.2.{i}") for i in range(100)))
    for _ in range(3):
        reply = await server.ask(query("many.docker", use_edns=0, payload=65535))
        assert reply.flags & dns.flags.TC
        assert len(reply.to_wire()) <= 1232


async def test_do_is_copied_and_forgotten_with_the_query(server: Serving) -> None:
    for _ in range(3):
        with_do = await server.ask(query("web.docker", use_edns=0, want_dnssec=True))
        without = await server.ask(query("web.docker", use_edns=0))
        assert with_do.ednsflags & dns.flags.DO
        assert not without.ednsflags & dns.flags.DO


@pytest.mark.parametrize("name", ["web.docker", "nobody.docker", "docker", "elsewhere.example"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_opt_if_and_only_if_opt(server: Serving, name: str, tcp: bool) -> None:
    for _ in range(3):
        assert (await server.ask(query(name, use_edns=0), tcp=tcp)).edns == 0
        assert (await server.ask(query(name), tcp=tcp)).edns == -1


@pytest.mark.parametrize(
    ("counts", "behind", "has_opt"),
    [
        ((0, 0, 2), OPT_OF_ROOT * 2, False),
        ((1, 0, 0), OPT_OF_ROOT, False),
        ((0, 1, 0), OPT_OF_ROOT, False),
        ((0, 0, 1), b"\1x" + OPT_OF_ROOT, False),
        ((0, 0, 1), b"\xc0\x0c" + OPT_OF_ROOT[1:], False),
        ((0, 0, 1), b"", False),
        ((0, 0, 1), OPT_OF_ROOT[:-1], False),
        ((0, 0, 1), OPT_OF_ROOT[:-2] + b"\0\4\0\12", False),
        ((0, 0, 1), OPT_OF_ROOT[:-2] + b"\0\1x", True),
        ((0, 0, 1), OPT_OF_ROOT[:-2] + b"\0\4\0\12\0\1", True),
        ((0, 0, 1), OPT_OF_ROOT[:-2] + b"\0\5\0\12\0\2x", True),
    ],
    ids=[
        "twice",
        "as an answer",
        "as authority",
        "below a name",
        "at a pointer",
        "missing",
        "cut off",
        "longer than the message",
        "an option without a head",
        "an option that is cut off",
        "an option longer than OPT",
    ],
)
async def test_a_malformed_opt_record_is_formerr(
    server: Serving, counts: tuple[int, int, int], behind: bytes, has_opt: bool
) -> None:
    """RFC 6891 section 6.1.1. The question, which could be read, comes back."""
    asked = packet(counts=counts, behind=behind)
    stream = await server.connect()
    await stream.send(asked)
    for octets in (await server.octets(asked), await stream.receive()):
        reply = dns.message.from_wire(octets)
        assert reply.rcode() == dns.rcode.FORMERR
        assert (reply.id, reply.question[0].name.to_text()) == (77, "web.docker.")
        assert reply.edns == (0 if has_opt else -1)
        assert not reply.answer
    await stream.close()


async def test_octets_in_other_versions_are_not_judged(server: Serving) -> None:
    """What options look like in version 1 is not known; that it is version 1 is."""
    garbled = message.opt(1232)[:6] + b"\1\0\0\0\3xyz"
    reply = dns.message.from_wire(await server.octets(packet(behind=garbled)))
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


async def test_opt_may_stand_among_other_records(server: Serving) -> None:
    other = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
    for counts, behind in (((0, 0, 2), other + OPT_OF_ROOT), ((1, 1, 2), other * 2 + OPT_OF_ROOT + other)):
        reply = dns.message.from_wire(await server.octets(packet(counts=counts, behind=behind)))
        assert reply.rcode() == dns.rcode.NOERROR
        assert len(records(reply, "A")) == 3
        assert reply.edns == 0


async def test_octets_behind_the_message_are_let_be(server: Serving) -> None:
    for _ in range(3):
        reply = dns.message.from_wire(await server.octets(packet(behind=OPT_OF_ROOT + b"garbage")))
        assert len(records(reply, "A")) == 3


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_nsid_is_answered_on_request(server: Serving, tcp: bool) -> None:
    """RFC 5001 section 2: nothing but the request for it brings it, and once."""
    for _ in range(3):
        asked = query("web.docker", options=[option(NSID, b""), option(NSID, b"x")])
        reply = await server.ask(asked, tcp=tcp)
        assert [int(o.otype) for o in reply.options] == [NSID]
        assert options(reply)[NSID].startswith(b"discoverd ")
        assert not (await server.ask(query("web.docker", use_edns=0), tcp=tcp)).options


async def test_nsid_is_what_the_configuration_says(tmp_path: Path) -> None:
    text = "a longer one than the host's: Zürich, rack 7"
    async with serving(tmp_path, f'dns.nsid = "{text}"') as server:
        asked = query("web.docker", options=[option(NSID, b"")])
        assert options(await server.ask(asked))[NSID] == text.encode()
        chaos = dns.message.make_query("id.server", "TXT", "CH")
        assert (await server.ask(chaos)).answer[0][0].strings == (text.encode(),)
        server.app.reload(lambda: server.app.config.model_copy(update={"dns": DnsConfig()}))
        assert options(await server.ask(asked))[NSID].startswith(b"discoverd ")


async def test_keepalive_is_answered_over_tcp_alone(server: Serving) -> None:
    """RFC 7828 section 3.3.2, in tenths of a second; section 3.3.1: over UDP it is ignored."""
    asked = query("web.docker", options=[option(KEEPALIVE, b"")])
    for _ in range(3):
        assert options(await server.ask(asked, tcp=True)) == {KEEPALIVE: (100).to_bytes(2, "big")}
        assert not (await server.ask(asked)).options
        assert not (await server.ask(query("web.docker", use_edns=0), tcp=True)).options


async def test_a_reply_with_all_options_and_no_room_still_fits(server: Serving) -> None:
    """The longest name, NSID and a cookie: within 512 octets, with OPT."""
    name = ".".join([*["a" * 63] * 3, "b" * 54, "docker"])
    asked = query(name, options=[option(NSID, b""), option(10, b"12345678")], payload=512)
    reply = await server.ask(asked)
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert len(reply.to_wire()) <= 512
    assert NSID in options(reply)
