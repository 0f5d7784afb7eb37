"""What is said to a service manager and taken from it; tests/real/test_systemd.py has a real one."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.config import load
from discoverd.dns.adopt import adopt
from discoverd.dns.server import BindError
from discoverd.systemd import Manager, passed_sockets
from discoverd.wiring import access_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def said(sock: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(sock.recv(4096).decode())
        except BlockingIOError:
            return found


async def test_the_watchdog_is_fed_by_the_event_loop(manager_socket: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "20000"}
    manager = Manager(environ | {"WATCHDOG_PID": str(os.getpid())})
    assert manager.watchdog_seconds == 0.02
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(manager.watch(), name="watchdog")
        heard: list[str] = []
        while len(heard) < 3:
            await asyncio.sleep(0.005)
            heard += said(manager_socket)
        assert set(heard) == {"WATCHDOG=1"}
        time.sleep(0.2)  # noqa: ASYNC251 - that is the fault
        assert said(manager_socket) == [], "a loop that is blocked says nothing"
        watching.cancel()


def test_nobody_is_told_anything_without_a_manager(manager_socket: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
    other = Manager(environ)
    assert other.watchdog_seconds == 0, "the watchdog of another process"
    assert not environ, "what runs below must not speak in its name"
    other.ready("answering")
    assert said(manager_socket) == ["READY=1\nSTATUS=answering"]
    Manager({}).ready("answering")
    assert said(manager_socket) == []


def test_sockets_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
    assert not passed_sockets(environ).dns
    assert not environ


def test_what_is_passed_and_is_no_socket(tmp_path: Path) -> None:
    started = f"LISTEN_PID=$$ LISTEN_FDS=1 exec {sys.executable} -m discoverd serve 3</dev/null"
    done = subprocess.run(["sh", "-c", started], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "LISTEN_FDS=1 says that descriptor 3 is a socket to listen on: " in done.stderr


UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([(socket.AF_INET, UDP)], r"no TCP socket was passed, .* add ListenStream=127.0.0.1:\d+ to the"),
        ([(socket.AF_INET, TCP)], r"no UDP socket was passed, .* add ListenDatagram=127.0.0.1:\d+ to the"),
        ([(socket.AF_INET6, UDP)], r"\[::\]:\d+ .* for IPv4 as well.* set BindIPv6Only=ipv6-only"),
        ([(socket.AF_UNIX, TCP)], "expected one of an IP address"),
        ([(socket.AF_INET, None)], "listens neither for UDP nor TCP"),
    ],
)
def test_sockets_that_cannot_be_served(
    kinds: list[tuple[socket.AddressFamily, socket.SocketKind | None]], expected: str, tmp_path: Path
) -> None:
    wheres: dict[int, Any] = {
        socket.AF_INET: ("127.0.0.1", 0),
        socket.AF_INET6: ("::", 0),
        socket.AF_UNIX: str(tmp_path / "s"),
    }
    with ExitStack() as stack:
        sockets = []
        for family, kind in kinds:
            sock = stack.enter_context(socket.socket(family, kind or TCP))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(wheres[family])
            if kind == TCP:
                sock.listen()
            sockets.append(sock)
        with pytest.raises(BindError, match=expected) as raised:
            adopt(sockets)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("host", "beyond"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_who_may_change_something_is_by_the_socket_that_is_served(
    host: str, beyond: bool, tmp_path: Path
) -> None:
    with socket.create_server((host, 0)) as sock:
        assert access_of(load({"http": "off"}, {}, tmp_path), [sock]).beyond is beyond
