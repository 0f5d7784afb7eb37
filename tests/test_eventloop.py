"""Sockets that are read directly: promptly, and never at the cost of what else the loop has to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from discoverd import eventloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of datagrams."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    yield ends
    for end in ends:
        end.close()


def run(main: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            await main(asyncio.get_running_loop())

    eventloop.run(within())


def test_each_datagram_is_read_and_nothing_else_is_needed(pair: Pair) -> None:
    far, near = pair
    read: list[bytes] = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        done = asyncio.Event()

        def drain() -> None:
            read.append(near.recv(100))
            if len(read) == 100:
                done.set()

        eventloop.read_directly(loop, near.fileno(), drain)
        for number in range(100):
            while True:
                try:
                    far.send(b"%d" % number)
                except BlockingIOError:
                    await asyncio.sleep(0)
                else:
                    break
        await done.wait()
        assert loop.remove_reader(near.fileno())
        far.send(b"too late")
        for _ in range(5):
            await asyncio.sleep(0)

    run(main)
    assert read == [b"%d" % number for number in range(100)]


def test_a_socket_that_can_always_be_read_starves_nobody(pair: Pair) -> None:
    """Timers, callbacks of its own, other threads, and other sockets."""
    far, near = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        waited_for = {"called soon", "called later", "of a thread", "another socket"}
        all_seen, asked = asyncio.Event(), False

        def saw(what: str) -> None:
            waited_for.discard(what)
            if not waited_for:
                all_seen.set()

        def read() -> None:  # and leaves it where it is
            nonlocal asked
            if not asked:
                asked = True
                loop.call_soon(saw, "called soon")
                loop.call_later(0.01, saw, "called later")
                threading.Thread(target=loop.call_soon_threadsafe, args=(saw, "of a thread")).start()

        def read_another() -> None:
            far.recv(10)
            saw("another socket")

        loop.add_reader(far.fileno(), read_another)
        eventloop.read_directly(loop, near.fileno(), read)
        far.send(b"stays")
        near.send(b"back")
        await all_seen.wait()
        loop.remove_reader(near.fileno())
        loop.remove_reader(far.fileno())

    run(main)


def test_two_that_can_be_read_at_a_time_are_both_read(pair: Pair) -> None:
    far, near = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        read: set[bytes] = set()
        both = asyncio.Event()

        def take(end: socket.socket) -> None:
            read.add(end.recv(10))
            if len(read) == 2:
                both.set()

        far.send(b"near")
        near.send(b"far")
        for end in pair:
            eventloop.read_directly(loop, end.fileno(), lambda end=end: take(end))  # type: ignore[misc]
        await both.wait()
        for end in pair:
            loop.remove_reader(end.fileno())

    run(main)


def test_what_fails_is_told_and_the_loop_goes_on(pair: Pair) -> None:
    far, near = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        told: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: told.append(context))
        done = asyncio.Event()

        def read() -> None:
            if near.recv(10) == b"good":
                done.set()
            else:
                raise RuntimeError("bad")

        eventloop.read_directly(loop, near.fileno(), read)
        far.send(b"bad")
        far.send(b"good")
        await done.wait()
        assert [str(context["exception"]) for context in told] == ["bad"]
        loop.remove_reader(near.fileno())

    run(main)


def test_another_loop_reads_in_its_own_way(pair: Pair) -> None:
    far, near = pair

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        assert not isinstance(loop, eventloop.Loop)
        got = loop.create_future()
        eventloop.read_directly(loop, near.fileno(), lambda: got.set_result(near.recv(10)))
        far.send(b"hello")
        try:
            return await asyncio.wait_for(got, 20)
        finally:
            loop.remove_reader(near.fileno())

    assert asyncio.run(main()) == b"hello"


def test_what_is_closed_before_it_is_taken_out_ends_nothing(pair: Pair) -> None:
    """While a copy of it is open, it goes on being reported."""
    far, near = pair

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        copy, number = near.dup(), near.fileno()
        loop.add_reader(near.fileno(), lambda: None)
        near.close()
        with contextlib.suppress(OSError):  # it is forgotten, and still watched
            loop.remove_reader(number)
        far.send(b"there")
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        copy.close()

    run(main)


@pytest.mark.parametrize(
    "meanwhile", ["nothing", "another socket", "another that is read directly", "a timer"]
)
def test_nobody_waits_at_a_socket_while_the_loop_has_something_else(
    pair: Pair, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventloop, "LATELY", 0.0 if meanwhile in {"nothing", "a timer"} else 1000.0)
    monkeypatch.setattr(eventloop, "SOON", 1000.0 if meanwhile == "a timer" else 0.0)
    far, near = pair
    how: list[str] = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        seen = asyncio.Event()

        def take(what: str) -> None:
            how.append(what)
            near.recv(100)
            seen.set()

        eventloop.read_directly(loop, near.fileno(), lambda: take("read"), lambda: take("alone"))
        if meanwhile == "a timer":
            loop.call_later(100, far.close)
        with contextlib.ExitStack() as stack:
            if meanwhile.startswith("another"):
                there, here = socket.socketpair()
                stack.enter_context(there)
                stack.enter_context(here)
                came = asyncio.Event()
                add = eventloop.read_directly if meanwhile.endswith("directly") else type(loop).add_reader

                def take_there() -> None:
                    here.recv(100)
                    came.set()

                add(loop, here.fileno(), take_there)
                there.send(b"first")
                await came.wait()
                loop.remove_reader(here.fileno())
            far.send(b"a datagram")
            await seen.wait()
        loop.remove_reader(near.fileno())

    run(main)
    assert how == ["alone" if meanwhile == "nothing" else "read"]
