"""What two servers say to each other, where one of them is another version or nobody that should be there."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from discoverd import takeover
from discoverd.takeover import DNS, FILE, Channel, Handed, Offer, TakeOverError
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


class Running:
    """A server with so many sockets, that notes what it is told."""

    def __init__(self, count: int = 1) -> None:
        self.told: list[str] = []
        self.held = [Handed(DNS, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for each in self.held:
            each.sock.bind(("127.0.0.1", 0))

    def sockets(self) -> Sequence[Handed]:
        return self.held

    async def let_go(self) -> None:
        self.told.append("let go")

    async def take_up(self) -> None:
        self.told.append("take up")


@asynccontextmanager
async def offering(folder: Path, running: Running) -> AsyncIterator[Offer]:
    offer = Offer(folder, running)
    offer.open()
    task = asyncio.get_running_loop().create_task(offer.run(), name="offer")
    try:
        yield offer
    finally:
        task.cancel()
        await asyncio.wait([task])
        for each in running.held:
            each.sock.close()


def raw(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(folder / FILE))
    sock.setblocking(False)
    return sock


async def heard(sock: socket.socket) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(sock, 65536) or "{}")
    except ConnectionResetError:  # closed before it was read
        return {}
    return said


async def test_the_sockets_are_the_same_however_many(tmp_path: Path) -> None:
    running = Running(count=450)
    deep = tmp_path / ("d" * 120)  # longer than an address of a Unix socket may be
    deep.mkdir()
    async with offering(deep, running) as offer:
        taking = await takeover.begin(deep)
        assert taking is not None
        got = [each.sock.getsockname() for each in taking.sockets]
        assert got == [each.sock.getsockname() for each in running.held]
        assert not any(each.sock.get_inheritable() for each in taking.sockets)
        await taking.have_it_yield()
        assert running.told == ["let go"]
        taking.serving()
        await until_async(offer.handed.is_set)
        assert running.told == ["let go"]
        for each in taking.sockets:
            each.sock.close()
        taking.close()


@pytest.mark.parametrize(
    "octets", [b"no JSON", b"[1]", b'"x"', b"7", b"\xff\xfe", b"{}", b'{"take_over": 0}']
)
async def test_who_speaks_of_something_else_gets_no_socket(tmp_path: Path, octets: bytes) -> None:
    running = Running()
    async with offering(tmp_path, running):
        with raw(tmp_path) as sock:
            sock.send(octets)
            assert set(await heard(sock)) <= {"refused"}
        assert running.told == []
        taking = await takeover.begin(tmp_path)  # it is there for the next one
        assert taking is not None
        for each in taking.sockets:
            each.sock.close()
        taking.close()


async def test_a_newer_version_may_say_more(tmp_path: Path) -> None:
    running = Running()
    async with offering(tmp_path, running) as offer:
        with raw(tmp_path) as sock:
            for words in ({"take_over": 7, "new": [1]}, {"progress": 0.5}, {"yield": True, "why": "so"}):
                sock.send(json.dumps(words).encode())
            assert (await heard(sock))["sockets"] == [DNS]
            assert await heard(sock) == {"yielded": True}
            sock.send(b'{"serving": true}')
            await until_async(offer.handed.is_set)


async def test_a_server_that_hands_over_in_another_way_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old:
        old.bind(str(tmp_path / FILE))
        old.listen()
        old.setblocking(False)
        task = asyncio.get_running_loop().create_task(takeover.begin(tmp_path), name="begin")
        sock, _ = await asyncio.get_running_loop().sock_accept(old)
        with sock:
            sock.send(b'{"take_over": 2, "version": "9.9"}')
            with pytest.raises(TakeOverError, match=r"version 9\.9, hands over in another way"):
                await task


async def test_another_user_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the directory open to all, who asks would still have to be its user or root."""
    monkeypatch.setattr(Channel, "user", 4711)
    running = Running()
    async with offering(tmp_path, running):
        with raw(tmp_path) as sock:
            sock.send(b'{"take_over": 1}')
            assert await heard(sock) == {}
        monkeypatch.setattr("os.geteuid", lambda: 4712)
        with pytest.raises(TakeOverError, match="runs as user 4711, expected 4712"):
            await takeover.begin(tmp_path)
    assert running.told == []


async def test_nobody_is_there(tmp_path: Path) -> None:
    assert await takeover.begin(tmp_path / "none") is None
    assert await takeover.begin(tmp_path) is None
