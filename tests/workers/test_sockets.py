"""Sockets that several processes share: bound together, paused and taken up again without a loss."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from discoverd.dns.server import BindError, DnsServer, bind, bind_all
from tests.dns.serving import TIMEOUT, query
from tests.fuzz.invariants import Subject


def test_askers_are_dealt_out_to_all() -> None:
    with ExitStack() as stack:
        shared = bind_all("127.0.0.1", 0, 3)
        for listener in shared:
            stack.callback(listener.close)
        assert {listener.port for listener in shared} == {shared[0].port}
        for _ in range(100):
            asker = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            asker.sendto(b"?", ("127.0.0.1", shared[0].port))
            stack.enter_context(socket.create_connection(("127.0.0.1", shared[0].port)))
        for listener in shared:
            assert listener.udp.recv(10) == b"?"
            stack.enter_context(listener.tcp.accept()[0])


@pytest.mark.parametrize("holders", [1, 2])
@pytest.mark.parametrize("wanted", [1, 2])
def test_a_port_that_another_server_has_is_refused_even_if_both_would_share(
    holders: int, wanted: int
) -> None:
    held = bind_all("127.0.0.1", 0, holders)
    with pytest.raises(BindError, match="in use"):
        bind_all("127.0.0.1", held[0].port, wanted)
    for listener in held:
        listener.close()
    bind("127.0.0.1", held[0].port).close()


async def test_what_comes_while_nobody_serves_is_answered_later() -> None:
    """A pause closes neither socket: datagrams and connections wait in them."""
    listener = bind("127.0.0.1", 0)
    server = DnsServer([listener], Subject().handler)
    await server.start()
    server.pause()
    loop = asyncio.get_running_loop()
    asked = query("web.docker").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asker:
        asker.connect(("127.0.0.1", listener.port))
        await loop.sock_sendall(asker, asked)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(len(asked).to_bytes(2, "big") + asked)
        await server.start()
        async with asyncio.timeout(TIMEOUT):
            assert (await loop.sock_recv(asker, 512))[:2] == asked[:2]
            length = int.from_bytes(await reader.readexactly(2), "big")
            assert (await reader.readexactly(length))[:2] == asked[:2]
    writer.close()
    await server.stop_accepting()
    await server.stop()


async def test_connections_outlive_a_pause() -> None:
    listener = bind("127.0.0.1", 0)
    server = DnsServer([listener], Subject().handler)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    asked = query("web.docker").to_wire()
    for _ in range(2):
        writer.write(len(asked).to_bytes(2, "big") + asked)
        async with asyncio.timeout(TIMEOUT):
            length = int.from_bytes(await reader.readexactly(2), "big")
            assert (await reader.readexactly(length))[:2] == asked[:2]
        server.pause()
    writer.close()
    await server.stop_accepting()
    await server.stop()
