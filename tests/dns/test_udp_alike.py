"""Batches answer every query as it is answered by itself, however it resembles one that is kept."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import pytest

from discoverd.dns import mmsg
from tests.dns.serving import TIMEOUT, instance, query, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.dns.serving import Serving

LONG = "l" * 60
#: Its query has 65 octets, with 32 zeros behind 97: "A" and "a".
LETTER = "m" * 40
#: Names that exist, that do not, and that are not ours; some as long as a key, and just beyond.
NAMES = (
    *("web.docker", "WEB.docker", "web.DOCKER", f"{LONG}.docker", f"{LONG.upper()}.docker", "wild.docker"),
    *("nobody.docker", "Nobody.Docker", "no-body.docker", "_x.docker", "a.b.docker", "all.web.docker"),
    *(f"{LONG}.aaaaaaaaaaaaaa.docker", f"{LONG}.{'b' * 30}.docker", "n" * 63 + ".docker", "ns.docker"),
    *(f"{LETTER}.docker", f"{LETTER.upper()}.docker", f"{LETTER[:-1]}M.docker", f"{'q' * 40}.docker"),
    *("example.com", "docker", "DOCKER", ".", "[.docker", "{.docker", "@.docker", "`.docker"),
)
#: 65 (HTTPS) is "A" and 97 "a" for who takes a question as text; 33 is SRV.
TYPES = ("A", "AAAA", "SRV", "TXT", "HTTPS", "TYPE97", "ANY")
#: 0x0550 and 0x0570 differ like letters do.
SIZES = (None, 512, 1232, 0x0550, 0x0570)


#: Client cookies, ours, one of ours that looks like a client's, one that is too short, an option beside one.
COOKIES = (
    b"\0\x0a\0\x08" + b"8 octets",
    b"\0\x0a\0\x18" + b"8 octets" + bytes((240, 0, 0, 0)) + bytes(12),
    b"\0\x0a\0\x18" + bytes(15) + b"\x08" + bytes(8),
    b"\0\x0a\0\x07" + b"7 octet",
    b"\0\x03\0\0" + b"\0\x0a\0\x08" + b"8 octets",
)

SERIAL = re.compile(r"(?<= SOA )\S+ \S+ \d+")
#: What a server makes of a client's cookie, behind that.
SERVER_COOKIE = re.compile(rb"(?s)(?<=\0\x0a\0\x18.{8}).{16}$")


def packets() -> list[bytes]:
    """Whole queries, the same cut at the end, and with zeros behind; ids tell them apart."""
    made: list[bytes] = []
    for name in NAMES:
        for rtype in TYPES:
            for size in SIZES:
                asked = query(name, rtype) if size is None else query(name, rtype, use_edns=0, payload=size)
                asked.flags ^= dns.flags.RD * (len(made) % 2)
                whole = asked.to_wire()
                made += [whole, whole[:-1], whole[:-2], whole + b"\0", whole + b"\0" * 32]
            plain = query(name, rtype, use_edns=0).to_wire()
            for options in COOKIES if rtype in ("A", "HTTPS") else ():
                whole = plain[:-2] + len(options).to_bytes(2, "big") + options
                made += [whole, whole[:-1], whole + b"\0"]
    return [number.to_bytes(2, "big") + packet[2:] for number, packet in enumerate(made)]


async def ask(server: Serving, sock: socket.socket, sent: list[bytes]) -> dict[bytes, bytes]:
    """The replies to packets that are sent in bursts, by their ids; those without one are left out."""
    loop, got = asyncio.get_running_loop(), {}
    for at in range(0, len(sent), 256):
        burst = sent[at : at + 256]
        last = query("last.docker")
        last.id = 65535
        for packet in (*burst, last.to_wire()):
            sock.sendto(packet, (server.host, server.port))
        async with asyncio.timeout(TIMEOUT):
            while (reply := await loop.sock_recv(sock, 65535))[:2] != b"\xff\xff":
                got[reply[:2]] = reply
    return got


def meaning(reply: bytes) -> str:
    """All of a reply, its question to the letter, but for what tells servers apart: serial and cookie."""
    reply = SERVER_COOKIE.sub(bytes(16), reply)
    return SERIAL.sub("", dns.message.from_wire(reply).to_text())


def sent_with(packets: list[bytes], ident: bytes) -> bytes:
    return next(packet for packet in packets if packet[:2] == ident)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        yield made


@pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")
async def test_a_batch_answers_like_one_by_one(
    tmp_path: Path, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, chance = packets(), random.Random(1)
    async with AsyncExitStack() as stack:
        servers = []
        for batched in (True, False):
            monkeypatch.setattr(mmsg, "available", lambda batched=batched: batched)
            server = await stack.enter_async_context(serving(tmp_path, listen=["127.0.0.1:0"]))
            server.publish(
                instance("web", "192.0.2.1", ports=(80,)),
                instance(LONG, "192.0.2.2", "2001:db8::2"),
                instance(LETTER, "192.0.2.4"),
                instance("wild", "192.0.2.3", extra_names=("below.wild",)),
            )
            servers.append(server)
        whole, single = servers
        expected = await ask(single, sock, sent)
        assert len(expected) > len(sent) / 2
        for _ in range(4):  # first what teaches, then what was learnt, each in another company
            chance.shuffle(sent)
            got = await ask(whole, sock, sent)
            assert got.keys() == expected.keys()
            for ident, reply in got.items():
                assert meaning(reply) == meaning(expected[ident]), sent_with(sent, ident).hex()
