"""Batches: which level answers what, for whom, in whose turn, and that replies stay until they are sent."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import dns.message
import dns.rcode
import pytest

from discoverd.dns import mmsg, remembered
from discoverd.dns.handler import Handler
from tests.dns.serving import COOKIE, TIMEOUT, instance, option, options, query, records, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from discoverd.dns.handler import Reply
    from tests.dns.serving import Serving

pytestmark = pytest.mark.skipif(not mmsg.available(), reason="this machine has no recvmmsg")

WEB = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
PLAIN, EDNS, MIXED = query("web.docker"), query("web.docker", use_edns=0), query("wEb.DoCkEr")
UNKNOWN = query("nobody.docker")
#: The id of what no reply is waited for.
STRAY = b"\xff\xff"


def with_cookie(cookie: bytes, name: str = "web.docker") -> dns.message.Message:
    return query(name, options=[option(COOKIE, cookie)])


class Client:
    """A socket of its own at an address of this machine."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind((address, 0))
        self._where = ("", 0)
        self._asked = 0

    @property
    def address(self) -> str:
        return str(self._sock.getsockname()[0])

    def use(self, server: Serving) -> Client:
        self._where = server.host.replace("0.0.0.0", "127.0.0.1"), server.port
        return self

    def send(self, *queries: dns.message.Message) -> None:
        for each in queries:
            packet = bytearray(each.to_wire())
            packet[:2] = self._asked.to_bytes(2, "big")
            self._sock.sendto(packet, self._where)
            self._asked += 1

    def send_octets(self, packet: bytes) -> None:
        """No reply is waited for."""
        self._sock.sendto(STRAY + packet[2:], self._where)

    async def replies(self) -> list[dns.message.Message]:
        """The replies to all that were sent, in the order of the questions."""
        loop = asyncio.get_running_loop()
        got: dict[int, dns.message.Message] = {}
        async with asyncio.timeout(TIMEOUT):
            while len(got) < self._asked:
                octets = await loop.sock_recv(self._sock, 65535)
                if octets[:2] != STRAY:
                    reply = dns.message.from_wire(octets)
                    got[reply.id] = reply
        replies = [got[number] for number in range(self._asked)]
        self._asked = 0
        return replies

    async def ask(self, *queries: dns.message.Message) -> list[dns.message.Message]:
        """The replies to queries that come in one go."""
        self.send(*queries)
        return await self.replies()

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> Iterator[list[Client]]:
    addresses: Sequence[str] = getattr(request, "param", ("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    with ExitStack() as stack:
        made = [Client(address) for address in addresses]
        for each in made:
            stack.callback(each.close)
        yield made


def firsts(replies: Sequence[dns.message.Message]) -> list[str]:
    """The first address of each."""
    return [records(reply, "A")[0] for reply in replies]


def turns(order: Sequence[str]) -> bool:
    """Whether each is followed by the next of WEB."""
    places = [WEB.index(ip) for ip in order]
    return all((a + 1) % len(WEB) == b for a, b in pairwise(places))


@pytest.mark.parametrize("asked", [PLAIN, EDNS, MIXED, with_cookie(b"8 octets")], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 40])
async def test_a_query_that_repeats_goes_round(
    tmp_path: Path, clients: list[Client], asked: dns.message.Message, size: int
) -> None:
    """From the first reply on, over all ways to make one, however many come together."""
    async with serving(tmp_path) as server:
        server.publish(*(instance("web", ip) for ip in WEB))
        client, order = clients[0].use(server), []
        for _ in range(6):
            order += firsts(await client.ask(*[asked] * size))
        assert turns(order)


async def test_every_form_goes_round_beside_the_others(tmp_path: Path, clients: list[Client]) -> None:
    async with serving(tmp_path) as server:
        server.publish(*(instance("web", ip) for ip in WEB))
        client, forms = clients[0].use(server), (PLAIN, EDNS, MIXED)
        await client.ask(*forms)
        await client.ask(*forms)
        replies = [await client.ask(*forms) for _ in range(9)]
        for number in range(len(forms)):
            assert turns(firsts([each[number] for each in replies]))


@pytest.mark.parametrize(
    ("clients", "listen"),
    [
        (("127.0.0.1", "127.0.0.2", "127.0.0.3"), "127.0.0.1:0"),
        (("127.0.0.1",), "0.0.0.0:0"),
        (("::1", "::1"), "[::1]:0"),
    ],
    ids=["three askers", "one asker", "IPv6"],
    indirect=["clients"],
)
async def test_each_asker_gets_its_own_in_one_batch(
    tmp_path: Path, clients: list[Client], listen: str
) -> None:
    """By every level at once: among others a cookie that holds for its address alone."""
    unknown_too = with_cookie(bytes(8), "nobody.docker")
    async with serving(tmp_path, listen=[listen]) as server:
        server.publish(*(instance("web", ip) for ip in WEB))
        known = {client: [bytes((number,)) * 8] for number, client in enumerate(clients)}
        for _ in range(2 * remembered.EVERY):
            for _ in range(3):
                for client in clients:
                    # known and unknown ones next to each other, and the asker changes in between
                    client.use(server).send(PLAIN, MIXED, UNKNOWN, unknown_too)
                    client.send(*map(with_cookie, known[client]))
            for client in clients:
                for reply in await client.replies():
                    denied = "nobody" in reply.question[0].name.to_text()
                    assert reply.rcode() == (dns.rcode.NXDOMAIN if denied else dns.rcode.NOERROR)
                    assert denied or sorted(records(reply, "A")) == WEB
                    if (given := options(reply).get(COOKIE)) and not denied:
                        assert given[:8] == known[client][0]
                        age = server.app.handler.options.cookies.age(given, client.address, int(time.time()))
                        assert age is not None
                        known[client] = [given[:8], given]


async def test_floods_of_different_kinds_follow_each_other(tmp_path: Path, clients: list[Client]) -> None:
    """Whatever the level that was the best for the one before."""
    kinds = [PLAIN, MIXED, UNKNOWN, EDNS, with_cookie(b"8 octets"), with_cookie(bytes(24))]
    async with serving(tmp_path) as server:
        server.publish(*(instance("web", ip) for ip in WEB))
        client = clients[0].use(server)
        for kind in kinds * 2 + kinds[::-1]:
            for _ in range(3):
                for reply in await client.ask(*[kind] * 60, kinds[0], kinds[2]):
                    denied = "nobody" in reply.question[0].name.to_text()
                    assert reply.rcode() == (dns.rcode.NXDOMAIN if denied else dns.rcode.NOERROR)
                    assert denied or sorted(records(reply, "A")) == WEB


async def test_what_changes_within_a_batch_takes_no_reply_away(
    tmp_path: Path, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies that are found, but not sent yet, when one of the same batch has everything dropped."""
    handle = Handler.handle
    trash: list[bytes] = []

    async with serving(tmp_path) as server:
        server.publish(*(instance("web", ip) for ip in WEB))

        def handle_and_change(self: Handler, packet: bytes, *more: Any, **named: Any) -> Reply:
            if b"change" in packet:
                server.publish(*(instance("web", ip.replace("192", "198")) for ip in WEB))
                server.publish(*(instance("web", ip) for ip in WEB))
                gc.collect()
                trash.extend(bytes([number]) * size for number in range(200) for size in range(40, 600, 8))
            return handle(self, packet, *more, **named)

        monkeypatch.setattr(Handler, "handle", handle_and_change)
        client = clients[0].use(server)
        kept = [PLAIN, EDNS, MIXED, with_cookie(b"8 octets")]
        for number in range(20):
            for _ in range(3):
                await client.ask(*kept)
            trash.clear()
            replies = await client.ask(*kept * 4, query(f"change-{number}.other"), *kept * 4)
            assert all(sorted(records(reply, "A")) == WEB for reply in replies if reply.answer)
            assert len(trash) > 0
            assert sum(not reply.answer for reply in replies) == 1


@pytest.mark.parametrize("size", [8, 24])
async def test_a_cookie_that_ends_beyond_the_key_is_no_other(
    tmp_path: Path, clients: list[Client], size: int
) -> None:
    """Names of any length up to the longest label, so that the cookie stands before, across and behind."""
    mine = bytes(range(1, 1 + size))
    async with serving(tmp_path) as server:
        client = clients[0].use(server)
        for length in range(36, 64):
            name = "n" * length
            server.publish(instance(name, *WEB), instance("web", *WEB))
            asked = with_cookie(mine, f"{name}.docker")
            await client.ask(query(f"{name}.docker"), PLAIN)
            for _ in range(4):
                replies = await client.ask(asked, PLAIN, asked)
                assert all(sorted(records(reply, "A")) == WEB for reply in replies)
                for number in (0, 2):
                    given = options(replies[number])[COOKIE]
                    assert given[:8] == mine[:8]
                    age = server.app.handler.options.cookies.age(given, client.address, int(time.time()))
                    assert age is not None


@pytest.mark.parametrize("length", [64, 80, 191, 192, 200, 253, 254, 255])
async def test_what_is_no_label_is_malformed_and_harms_no_other(
    tmp_path: Path, clients: list[Client], length: int
) -> None:
    """RFC 1035 section 2.3.4: 63 octets at the most."""
    header = PLAIN.to_wire()[:12]
    packet = header + bytes((length,)) + b"a" * length + b"\6docker\0\0\1\0\1"
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        client = clients[0].use(server)
        for _ in range(3):
            await client.ask(PLAIN, UNKNOWN, query("nobody2.docker"))
        for _ in range(3):
            reply = await server.octets(packet)
            assert dns.rcode.Rcode(reply[3] & 15) == dns.rcode.FORMERR
            client.send(*[PLAIN] * 5)
            client.send_octets(packet)
            client.send(*[UNKNOWN] * 5)
            assert len(await client.replies()) == 10


async def test_a_domain_below_another_is_not_denied(tmp_path: Path, clients: list[Client]) -> None:
    async with serving(tmp_path, domain=["docker", "sub.docker"]) as server:
        server.publish(instance("web", *WEB))
        client = clients[0].use(server)
        for _ in range(4):
            apex, unknown, below = await client.ask(query("sub.docker"), UNKNOWN, query("nobody.sub.docker"))
            assert apex.rcode() == dns.rcode.NOERROR
            assert unknown.rcode() == below.rcode() == dns.rcode.NXDOMAIN


async def test_a_fault_of_ours_costs_no_reply_that_was_found(
    tmp_path: Path, clients: list[Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as server:
        server.publish(instance("web", *WEB))
        client = clients[0].use(server)
        for _ in range(3):
            await client.ask(PLAIN)

        def fail(*_: object, **_named: object) -> NoReturn:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(server.app.handler.fastpath, "vary", fail)
        client.send(*[PLAIN] * 7)
        client.send_octets(UNKNOWN.to_wire())
        client.send(*[PLAIN] * 7)
        assert len(await client.replies()) == 14
        assert "a fault of ours" in caplog.text


async def test_what_is_dropped_is_let_go_of_without_another_batch(
    tmp_path: Path, clients: list[Client]
) -> None:
    async with serving(tmp_path) as server:
        fastpath = server.app.handler.fastpath
        server.publish(instance("web", *WEB))
        for _ in range(3):
            await clients[0].use(server).ask(PLAIN, MIXED)
        server.publish()
        assert fastpath.retired
        server.app.answering.keep_house()
        assert not fastpath.retired
