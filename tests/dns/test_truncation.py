"""Replies that are too large for UDP: whole records, TC exactly where an answer is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.flags
import dns.message
import pytest

from tests.dns.serving import instance, query, records

if TYPE_CHECKING:
    from tests.dns.serving import Serving

SIZES = (512, 513, 600, 777, 1000, 1231, 1232)


def publish(server: Serving) -> None:
    server.publish(
        *(
            instance("web", f"192.0.2.{i}", ports=(80,), meta=((f"k{i}", "v" * (i * 7)),))
            for i in range(1, 31)
        )
    )


async def whole(server: Serving, rtype: str) -> dns.message.Message:
    reply = await server.ask(query("web.docker", rtype), tcp=True)
    assert not reply.flags & dns.flags.TC
    return reply


@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT"])
async def test_what_fits_is_whole(server: Serving, rtype: str) -> None:
    publish(server)
    everything = records(await whole(server, rtype), rtype)
    assert len(everything) == 30
    seen = set()
    for size in SIZES:
        for _ in range(35):  # more than all rotations
            reply = await server.ask(query("web.docker", rtype, use_edns=0, payload=size))
            assert len(reply.to_wire()) <= size
            got = records(reply, rtype)
            assert set(got) <= set(everything)
            assert len(set(got)) == len(got)
            assert bool(reply.flags & dns.flags.TC) == (len(got) < 30)
            assert reply.flags & dns.flags.AA
            seen.add(len(got) < 30)
            if reply.flags & dns.flags.TC:
                assert not reply.additional
    assert True in seen


@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT"])
async def test_as_much_as_fits_is_there(server: Serving, rtype: str) -> None:
    """The record that was left out would not have fitted."""
    publish(server)
    largest = max(len(r.to_wire()) for rrset in (await whole(server, rtype)).answer for r in rrset) + 12
    for size in SIZES:
        reply = await server.ask(query("web.docker", rtype, use_edns=0, payload=size))
        if reply.flags & dns.flags.TC:
            # names are written in full here: dnspython compresses owners as we do
            assert len(reply.to_wire()) > size - largest


async def test_an_answer_is_never_cut_for_glue(server: Serving) -> None:
    publish(server)
    everything = await whole(server, "SRV")
    addresses = set(records(everything, "A", "additional"))
    assert len(addresses) == 30
    for payload in (1400, 1232):
        reply = await server.ask(query("web.docker", "SRV", use_edns=0, payload=payload))
        glue = records(reply, "A", "additional")
        assert set(glue) <= addresses
        assert len(records(reply, "SRV")) + len(glue) < 60
        if glue:
            assert len(records(reply, "SRV")) == 30


async def test_a_record_that_is_larger_than_all_room_leaves_an_empty_reply(server: Serving) -> None:
    server.publish(instance("fat", "192.0.2.1", meta=tuple((f"k{i}", "v" * 200) for i in range(10))))
    for size in SIZES:
        reply = await server.ask(query("fat.docker", "TXT", use_edns=0, payload=size))
        assert reply.flags & dns.flags.TC
        assert not reply.answer
    assert len((await server.ask(query("fat.docker", "TXT"), tcp=True)).answer) == 1


async def test_without_edns_512_octets_are_the_most(server: Serving) -> None:
    publish(server)
    for _ in range(35):
        reply = await server.ask(query("web.docker", "SRV"))
        assert reply.flags & dns.flags.TC
        assert len(reply.to_wire()) <= 512
        assert reply.edns == -1


async def test_nothing_is_cut_off_where_it_fits_to_the_octet(server: Serving) -> None:
    """Thirty addresses: 12 + 16 + 30 * 16 + 11 octets."""
    publish(server)
    exact = 12 + len(b"\3web\6docker\0") + 4 + 30 * 16 + 11
    for size, missing in ((exact, False), (exact - 1, True), (exact + 1, False)):
        for _ in range(3):
            reply = await server.ask(query("web.docker", use_edns=0, payload=size))
            assert bool(reply.flags & dns.flags.TC) is missing
            assert len(records(reply, "A")) == 30 - missing
