"""What docs/security.md says of DNS messages that are made to hurt, tried through real sockets."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import dns.rcode

from tests.dns.serving import query, serving

if TYPE_CHECKING:
    from pathlib import Path

FORMERR = 1
A_IN = b"\0\1\0\1"
WEB = b"\3web\6docker\0" + A_IN
LARGEST = 65535


def header(questions: int = 1, additional: int = 0) -> bytes:
    return struct.pack("!6H", 0xD15C, 0, questions, 0, 0, additional)


def pointer(to: int) -> bytes:
    return struct.pack("!H", 0xC000 | to)


def bomb() -> bytes:
    """As many records as fit, each with a name of 193 octets by a chain of pointers."""
    label, rest = b"\x3f" + b"a" * 63, A_IN + bytes(6)
    records, starts = [label + b"\0" + rest], [len(header() + WEB)]
    for _ in range(2):
        starts.append(starts[-1] + len(records[-1]))
        records.append(label + pointer(starts[-2]) + rest)
    room = LARGEST - starts[-1] - len(records[-1])
    records += [pointer(starts[-1]) + rest] * (room // (2 + len(rest)))
    return header(1, len(records)) + WEB + b"".join(records)


#: Names that are none (RFC 1035 sections 3.1 and 4.1.4), and counts of what is not there.
MALFORMED = {
    "a pointer to itself": header() + pointer(12) + A_IN,
    "a pointer to the pointer before it": header(2) + pointer(18) + A_IN + pointer(12) + A_IN,
    "a pointer into what follows": header() + pointer(18) + A_IN + WEB,
    "a label that leads back to itself": header() + b"\1a" + pointer(12) + A_IN,
    "a pointer beyond the message": header() + pointer(0x3FFF) + A_IN,
    "a label type that does not exist": header() + b"\x80\3web\0" + A_IN,
    "a name of more than 255 octets": header() + (b"\x3f" + b"a" * 63) * 4 + b"\0" + A_IN,
    "a question that is cut off": header() + WEB[:-1],
    "many questions that are not there": header(65535) + WEB,
    "many records that are not there": header(1, 65535) + WEB,
}


async def test_names_that_lead_nowhere_are_malformed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for what, packet in MALFORMED.items():
            for reply in (await server.octets(packet), await by_tcp(packet, server.host, server.port)):
                assert reply[:2] == packet[:2], what
                assert reply[3] & 15 == FORMERR, what
                assert len(reply) <= len(packet), f"{what} is answered with less"


async def by_tcp(packet: bytes, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(len(packet).to_bytes(2, "big") + packet)
    async with asyncio.timeout(20):
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    writer.close()
    return reply


async def test_a_compression_bomb_is_one_small_reply(tmp_path: Path) -> None:
    packet = bomb()
    assert len(packet) > 60_000
    async with serving(tmp_path) as server:
        reply = await by_tcp(packet, server.host, server.port)
        assert reply[:2] == packet[:2]
        assert len(reply) < 512
        assert (await server.ask(query("web.docker"))).rcode() == dns.rcode.NXDOMAIN
