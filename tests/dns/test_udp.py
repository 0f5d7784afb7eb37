"""UDP on real sockets, in batches and a datagram at a time: bursts, mixtures, addresses."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import pytest

from discoverd.dns import message, mmsg
from tests.dns.serving import COOKIE, TIMEOUT, instance, option, options, query, records, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.dns.serving import Serving

WEB = {"192.0.2.1", "192.0.2.2", "192.0.2.3"}


@pytest.fixture(params=["in batches", "one by one"], autouse=True)
def system_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With recvmmsg, and as where there is none."""
    if request.param == "one by one":
        monkeypatch.setattr(mmsg, "available", lambda: False)
    elif not mmsg.available():
        pytest.skip("this machine has no recvmmsg")


@asynccontextmanager
async def at(folder: Path, *listen: str) -> AsyncIterator[Serving]:
    async with serving(folder, listen=list(listen)) as server:
        server.publish(*(instance("web", ip) for ip in sorted(WEB)), instance("six", "2001:db8::1"))
        yield server


class Client:
    """A datagram socket that keeps all that comes, and from where."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    async def exchange(self, where: tuple[str, int], *packets: bytes, count: int) -> list[tuple[bytes, str]]:
        """Send all at once, then take ``count`` replies; each with the address it came from."""
        loop = asyncio.get_running_loop()
        for packet in packets:
            self._sock.sendto(packet, where)
        got: list[tuple[bytes, str]] = []
        async with asyncio.timeout(TIMEOUT):
            while len(got) < count:
                data, peer = await loop.sock_recvfrom(self._sock, 65535)
                got.append((data, peer[0]))
        return got

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def asked(number: int, name: str = "web.docker", rtype: str = "A", **edns: object) -> bytes:
    made = query(name, rtype, **edns)  # type: ignore[arg-type]
    made.id = number
    return made.to_wire(max_size=65535)


async def test_a_burst_is_answered_to_the_last(tmp_path: Path, client: Client) -> None:
    async with at(tmp_path, "127.0.0.1:0") as server:
        got = await client.exchange((server.host, server.port), *(asked(i) for i in range(500)), count=500)
    replies = [dns.message.from_wire(data) for data, _ in got]
    assert {r.id for r in replies} == set(range(500))
    assert all(set(records(r, "A")) == WEB for r in replies)
    firsts = [records(r, "A")[0] for r in sorted(replies, key=lambda r: r.id)]
    assert {firsts.count(ip) for ip in WEB} <= {166, 167}


async def test_each_of_a_mixture_gets_its_own(tmp_path: Path, client: Client) -> None:
    """Known, new, denied, malformed, not understood and not answered, next to each other in one batch."""
    kinds = {
        0: (asked(0), dns.rcode.NOERROR),
        1: (asked(1, "nobody.docker"), dns.rcode.NXDOMAIN),
        2: (asked(2, "WEB.docker"), dns.rcode.NOERROR),
        3: (asked(3, "six.docker", "AAAA", use_edns=0), dns.rcode.NOERROR),
        4: (asked(4)[:-1], dns.rcode.FORMERR),
        5: (message.HEADER.pack(5, 4 << 11, 0, 0, 0, 0), dns.rcode.NOTIMP),
        6: (asked(6, "example.com"), dns.rcode.REFUSED),
        7: (asked(7, "web.docker", options=[option(COOKIE, b"12345678")]), dns.rcode.NOERROR),
        8: (asked(8, use_edns=1), dns.rcode.BADVERS),
    }
    silence = [b"", b"x", asked(9)[:11], asked(9)[:2] + b"\x80" + asked(9)[3:]]
    packets = [packet for packet, _ in kinds.values()]
    async with at(tmp_path, "127.0.0.1:0") as server:
        for _ in range(4):
            sent = [*packets[:3], *silence[:2], *packets[3:6], *silence[2:], *packets[6:]] * 5
            got = await client.exchange((server.host, server.port), *sent, count=len(kinds) * 5)
            replies = [dns.message.from_wire(data) for data, _ in got]
            assert sorted(r.id for r in replies) == sorted([*kinds] * 5)
            for reply in replies:
                assert reply.rcode() == kinds[reply.id][1]
            assert all(COOKIE in options(r) for r in replies if r.id == 7)
            assert all(r.question[0].name.to_text() == "WEB.docker." for r in replies if r.id == 2)


@pytest.mark.parametrize("size", [100, 130, 158, 159, 160, 161, 162, 163, 170, 600, 4000])
async def test_queries_of_any_length_are_read(tmp_path: Path, size: int) -> None:
    """Filled up with an option that means nothing."""
    filling = size - len(asked(1)) - 11 - 4
    packet = asked(1, options=[option(65001, bytes(filling))])
    assert len(packet) == size
    async with at(tmp_path, "127.0.0.1:0") as server:
        for _ in range(3):
            reply = dns.message.from_wire(await server.octets(packet))
            assert set(records(reply, "A")) == WEB
            assert not reply.options


async def test_a_datagram_that_is_too_long_does_no_harm(tmp_path: Path) -> None:
    packet = asked(1, options=[option(65001, bytes(9000))])
    async with at(tmp_path, "127.0.0.1:0") as server:
        reply = dns.message.from_wire(await server.octets(packet))
        assert reply.rcode() == dns.rcode.FORMERR
        assert set(records(await server.ask(query("web.docker")), "A")) == WEB


async def test_replies_leave_from_the_address_that_was_asked(tmp_path: Path, client: Client) -> None:
    """On a wildcard socket too (RFC 2181 section 4)."""
    async with at(tmp_path, "0.0.0.0:0") as server:
        for last in (1, 2, 77):
            where = (f"127.0.0.{last}", server.port)
            for name in ("web.docker", "nobody.docker", "example.com"):
                for _ in range(3):
                    ((_, source),) = await client.exchange(where, asked(1, name), count=1)
                    assert source == where[0]


async def test_one_socket_answers_for_many_addresses_at_once(tmp_path: Path) -> None:
    clients = [Client() for _ in range(10)]
    try:
        async with at(tmp_path, "0.0.0.0:0") as server:
            exchanges = [
                each.exchange((f"127.0.0.{i + 1}", server.port), *(asked(n) for n in range(20)), count=20)
                for i, each in enumerate(clients)
            ]
            for i, got in enumerate(await asyncio.gather(*exchanges)):
                assert {source for _, source in got} == {f"127.0.0.{i + 1}"}
                assert {int.from_bytes(data[:2], "big") for data, _ in got} == set(range(20))
    finally:
        for each in clients:
            each.close()


@pytest.mark.parametrize("listen", ["[::1]:0", "[::]:0"])
async def test_ipv6(tmp_path: Path, listen: str) -> None:
    client = Client(socket.AF_INET6)
    try:
        async with at(tmp_path, listen) as server:
            for name, rtype in (("web.docker", "A"), ("six.docker", "AAAA"), ("nobody.docker", "A")):
                for _ in range(3):
                    ((data, source),) = await client.exchange(
                        ("::1", server.port), asked(1, name, rtype), count=1
                    )
                    assert source == "::1"
                    assert dns.message.from_wire(data).flags & dns.flags.AA
            cookie = asked(2, options=[option(COOKIE, b"12345678")])
            for _ in range(3):
                ((data, _),) = await client.exchange(("::1", server.port), cookie, count=1)
                assert len(options(dns.message.from_wire(data))[COOKIE]) == 24
    finally:
        client.close()


async def test_askers_that_are_gone_hold_up_nobody(tmp_path: Path, client: Client) -> None:
    """Their ports are closed when the replies come, and the kernel says so."""
    async with at(tmp_path, "127.0.0.1:0") as server:
        for _ in range(50):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.sendto(asked(1), (server.host, server.port))
        got = await client.exchange((server.host, server.port), *(asked(i) for i in range(50)), count=50)
    assert len(got) == 50


async def test_a_change_is_answered_at_once(tmp_path: Path) -> None:
    """Also where the reply to this very query lay ready."""
    async with at(tmp_path, "127.0.0.1:0") as server:
        packets = [asked(1), asked(2, use_edns=0), asked(3, "WEB.docker"), asked(4, "new.docker")]
        for number in range(1, 4):
            for packet in packets * 3:
                await server.octets(packet)
            server.publish(instance("web", f"192.0.2.{number}"), instance("new", f"192.0.2.{number}"))
            for packet in packets:
                reply = dns.message.from_wire(await server.octets(packet))
                assert records(reply, "A") == [f"192.0.2.{number}"]


async def test_a_flood_of_names_that_do_not_exist_is_denied(tmp_path: Path, client: Client) -> None:
    async with at(tmp_path, "127.0.0.1:0") as server:
        sent = [asked(i, f"nobody{i}.docker") for i in range(300)]
        got = await client.exchange((server.host, server.port), *sent, count=300)
        for data, _ in got:
            reply = dns.message.from_wire(data)
            assert reply.rcode() == dns.rcode.NXDOMAIN
            assert reply.question[0].name.to_text() == f"nobody{reply.id}.docker."
            assert len(records(reply, "SOA", "authority")) == 1
            assert reply.authority[0].name.to_text() == "docker."
        server.publish(instance("nobody7", "192.0.2.7"))
        reply = dns.message.from_wire(await server.octets(sent[7]))
        assert records(reply, "A") == ["192.0.2.7"]
