"""Questions that come one by one and quickly are waited for in the kernel, at nobody's cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import dns.message
import dns.rcode
import pytest

from discoverd import eventloop
from discoverd.dns import lone, mmsg
from discoverd.dns.batched import BatchedEndpoint
from tests.dns.serving import TIMEOUT, Serving, instance, records, serving
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not mmsg.available(), reason="this machine has no recvmmsg, or no epoll"
)

QUESTIONS = 200


@pytest.fixture(autouse=True)
def always_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is just now, and whatever these tests themselves want of the loop."""
    monkeypatch.setattr(lone, "QUICK", 10**12)
    monkeypatch.setattr(lone, "QUICK_ONES", 16)
    monkeypatch.setattr(eventloop, "LATELY", 0.0)
    monkeypatch.setattr(eventloop, "SOON", 0.01)


class Asker:
    """Asks in a thread of its own, and waits for each reply before it goes on."""

    def __init__(self, server: Serving) -> None:
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        self._sock.settimeout(TIMEOUT)
        self._sock.connect((server.host, server.port))

    def ask(self, *names: str) -> list[dns.message.Message]:
        """Ask for these at once."""
        queries = {q.id: q for q in (dns.message.make_query(name, "A", id=i) for i, name in enumerate(names))}
        for query in queries.values():
            self._sock.send(query.to_wire())
        replies = [dns.message.from_wire(self._sock.recv(65535)) for _ in names]
        assert all(queries[reply.id].is_response(reply) for reply in replies)
        return sorted(replies, key=lambda reply: reply.id)

    def ask_again_and_again(self, name: str, count: int = QUESTIONS) -> list[set[str]]:
        return [set(records(reply, "A")) for _ in range(count) for reply in self.ask(name)]

    def close(self) -> None:
        self._sock.close()


def serve(
    tmp_path: Path, main: Callable[[Serving, Asker, list[int]], Coroutine[Any, Any, None]], **flags: Any
) -> None:
    """Run this beside a server that has a ``web``; the list gets how many each wait has answered."""

    async def within() -> None:
        async with asyncio.timeout(60), serving(tmp_path, **flags) as server:
            server.publish(instance("web", "192.0.2.1"))
            (endpoint,) = server.app.servers[0].udp
            assert isinstance(endpoint, BatchedEndpoint)
            waits, linger = list[int](), endpoint._linger

            def noted(end: int) -> tuple[int, int, int]:
                told = linger(end)
                waits.append(told[0])
                return told

            endpoint._linger = noted
            asker = Asker(server)
            try:
                await main(server, asker, waits)
            finally:
                asker.close()

    eventloop.run(within())


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"])
def test_they_are_answered_where_they_are_waited_for(tmp_path: Path, listen: str) -> None:
    async def main(server: Serving, asker: Asker, waits: list[int]) -> None:
        fast = server.app.servers[0].counts().fast
        found = await asyncio.to_thread(asker.ask_again_and_again, "web.docker")
        assert found == [{"192.0.2.1"}] * QUESTIONS
        assert sum(waits) > QUESTIONS / 4
        # the first two are answered by the handler, and from a ring
        assert server.app.servers[0].counts().fast - fast == QUESTIONS - 1
        assert server.app.servers[0].counts().dropped == 0

    serve(tmp_path, main, listen=[listen])


def test_whatever_else_comes_meanwhile_is_answered_as_ever(tmp_path: Path) -> None:
    """What is not kept, what does not exist, several at once, and octets that are no question."""

    async def main(server: Serving, asker: Asker, waits: list[int]) -> None:
        server.publish(*(instance(f"s{i}", f"192.0.2.{i}") for i in range(1, 101)))

        def ask() -> None:
            asker.ask_again_and_again("s1.docker", 40)
            for i in range(1, 101):
                (new,) = asker.ask(f"s{i}.docker")
                assert records(new, "A") == [f"192.0.2.{i}"]
                (denied,) = asker.ask(f"no{i}.docker")
                assert denied.rcode() == dns.rcode.NXDOMAIN
                asker._sock.send(b"no question")
                few = asker.ask(*(f"s{1 + (i + k) % 100}.docker" for k in range(i % 20)))
                assert [records(reply, "A") for reply in few] == [
                    [f"192.0.2.{1 + (i + k) % 100}"] for k in range(i % 20)
                ]
                asker.ask_again_and_again("s1.docker", 5)

        await asyncio.to_thread(ask)
        assert len(waits) > 1

    serve(tmp_path, main)


def test_nothing_else_of_the_loop_waits_for_long(tmp_path: Path) -> None:
    """Neither a timer, nor what another thread asks for, which changes what is answered."""

    async def main(server: Serving, asker: Asker, waits: list[int]) -> None:
        loop, seen, over = asyncio.get_running_loop(), set[str](), threading.Event()

        def ask() -> None:
            while not over.is_set():
                seen.update(*asker.ask_again_and_again("web.docker", 1))

        asking = loop.run_in_executor(None, ask)
        wanted = {f"192.0.2.{number}" for number in range(10, 30)}
        try:
            for address in sorted(wanted):
                waits.clear()
                await until_async(lambda: waits, message="questions that are waited for")
                thread = threading.Thread(
                    target=loop.call_soon_threadsafe, args=(server.publish, instance("web", address))
                )
                thread.start()
                await until_async(partial(seen.__contains__, address), message="a reply with what is new")
                thread.join()
        finally:
            over.set()
            await asking
        assert wanted < seen

    serve(tmp_path, main)


def test_who_waits_for_another_server_is_not_kept_waiting(tmp_path: Path) -> None:
    """While a question of ours is under way there, the loop looks for its reply all the time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(TIMEOUT)

        async def main(_server: Serving, asker: Asker, waits: list[int]) -> None:
            asker._sock.send(dns.message.make_query("www.example.com", "A", id=999).to_wire())
            query, back = await asyncio.to_thread(silent.recvfrom, 4096)
            await asyncio.to_thread(asker.ask_again_and_again, "web.docker", 100)
            assert waits == []
            reply = dns.message.make_response(dns.message.from_wire(query))
            silent.sendto(reply.to_wire(), back)
            assert dns.message.from_wire(await asyncio.to_thread(asker._sock.recv, 4096)).id == 999
            await asyncio.to_thread(asker.ask_again_and_again, "web.docker", 100)
            assert waits

        serve(tmp_path, main, upstream=[f"127.0.0.1:{silent.getsockname()[1]}"])


def test_silence_ends_it_and_the_loop_goes_on(tmp_path: Path) -> None:
    async def main(_server: Serving, asker: Asker, waits: list[int]) -> None:
        for _ in range(3):
            waits.clear()
            await asyncio.to_thread(asker.ask_again_and_again, "web.docker", 50)
            await until_async(lambda: waits, message="an end of waiting although nothing comes")

    serve(tmp_path, main)


def test_a_server_that_stops_waits_no_longer(tmp_path: Path) -> None:
    """However quickly questions come; those that had come are answered."""
    asking: list[asyncio.Future[None]] = []

    async def main(server: Serving, _asker: Asker, waits: list[int]) -> None:
        own = Asker(server)
        own._sock.settimeout(0.5)

        def ask() -> None:
            with contextlib.closing(own), contextlib.suppress(TimeoutError, ConnectionRefusedError):
                while True:
                    own.ask("web.docker")

        asking.append(asyncio.get_running_loop().run_in_executor(None, ask))
        await until_async(lambda: waits, message="questions that are waited for")

    serve(tmp_path, main)
    (asked,) = asking
    assert asked.done()
    assert asked.exception() is None


@pytest.mark.parametrize(
    ("gaps", "quick"),
    [
        ([1000] * 16, False),
        ([1000] * 17, True),
        ([1000] * 17 + [600_000], False),
        ([1000] * 17 + [600_000, 1000], True),  # what was earned is not lost by a moment's rest
        ([600_000] * 100, False),
    ],
)
def test_waits_are_earned_by_many_who_come_quickly(
    monkeypatch: pytest.MonkeyPatch, gaps: list[int], quick: bool
) -> None:
    monkeypatch.setattr(lone, "QUICK", 500_000)
    pace, now, said = lone.Pace(), 10**9, False
    pace.is_quick(now)
    for gap in gaps:
        now += gap
        said = pace.is_quick(now)
    assert said is quick


def test_after_a_wait_in_vain_all_has_to_be_earned_anew() -> None:
    pace, now = lone.Pace(), 10**9
    for silent, quick in ((False, True), (True, False)):
        for _ in range(lone.QUICK_ONES + 2):
            pace.is_quick(now)
        assert pace.is_quick(now)
        pace.waited(now, silent=silent)
        assert pace.is_quick(now) is quick


def test_a_socket_that_is_given_away_does_not_block(tmp_path: Path) -> None:
    """As who takes it over may expect, of whatever version it is."""

    async def main(server: Serving, _asker: Asker, _waits: list[int]) -> None:
        (endpoint,) = server.app.servers[0].udp
        loop = asyncio.get_running_loop()
        assert os.get_blocking(endpoint.sock.fileno())
        endpoint.stop(loop)
        assert not os.get_blocking(endpoint.sock.fileno())
        endpoint.start(loop)

    serve(tmp_path, main)
