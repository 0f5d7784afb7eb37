"""Connections on their way to the HTTP server: with a request in any pieces, without one, or too many."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from discoverd.http import gate
from discoverd.http.gate import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Gate, int]]:
    """A server that gives back what it gets, behind a gate; its port."""

    async def echo(request: web.BaseRequest) -> web.Response:
        return web.Response(body=await request.read())

    server = web.Server(echo)
    made = Gate(server)
    listening = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield made, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        made.close()
        await server.shutdown(1)


async def reached(state: Callable[[], bool]) -> None:
    """Let the loop go on until it is so; the tests have a time limit."""
    for _ in range(1_000_000):
        if state():
            return
        await asyncio.sleep(0)


async def test_a_request_may_come_in_any_pieces() -> None:
    async with served() as (_, port):
        for size in (1, 2, 7, len(REQUEST)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for at in range(0, len(REQUEST), size):
                writer.write(REQUEST[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)
            reply = await reader.read()
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert reply.endswith(b"\r\n\r\nhello")
            writer.close()


async def test_what_is_no_request_gets_the_servers_answer() -> None:
    async with served() as (_, port):
        for octets in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\n\n", b"x" * (gate.FIRST_MOST + 1)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(octets)
            assert (await reader.read()).startswith(b"HTTP/1.")
            writer.close()


async def test_who_does_not_ask_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FIRST_SECONDS", 0.05)
    async with served() as (made, port):
        for begin in (b"", REQUEST[:20]):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin)
            try:
                assert await reader.read() == b""
            except ConnectionResetError:  # as it is where octets had come
                assert begin
            writer.close()
        assert not made.waiting


async def test_beyond_half_an_address_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "CONNECTIONS_MOST", 20)
    monkeypatch.setattr(gate, "CONNECTIONS_PER_CLIENT", 4)

    async def is_let_in(address: str) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(REQUEST)
        try:
            return (await reader.read()).startswith(b"HTTP/1.1 200")
        except ConnectionResetError:
            return False
        finally:
            writer.close()

    async with served() as (made, port):
        held: list[Streams] = []
        for number in range(10):
            held.append(await asyncio.open_connection("127.0.0.1", port))
            await reached(lambda count=number: len(made.waiting) > count)  # type: ignore[misc]
        assert not await is_let_in("127.0.0.1")
        assert await is_let_in("127.0.0.2")
        for _, writer in held:
            writer.close()
        await reached(lambda: not made.waiting)
        assert await is_let_in("127.0.0.1")
