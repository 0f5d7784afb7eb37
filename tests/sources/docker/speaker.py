"""Something at a Docker socket that is no engine, or a failing one: what real engines don't do on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    #: What to send back, given a request's path; the connection is closed after it.
    Answer = Callable[[str], bytes]


def reply(body: Any, status: str = "200 OK", kind: str = "application/json") -> bytes:
    text = body if isinstance(body, str) else json.dumps(body)
    fields = f"Content-Type: {kind}\r\nContent-Length: {len(text.encode())}\r\nConnection: close"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n{text}".encode()


def stream(*chunks: bytes, end: bool = True) -> bytes:
    """A body in chunks, as events come; without ``end`` it just stops."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + (b"0\r\n\r\n" if end else b"")


VERSION = reply({"ApiVersion": "1.41"})


def engine_like(**answers: bytes) -> Answer:
    """Answers like an engine, with ``answers`` by the last part of the path."""
    usual = {"version": VERSION, "networks": reply([]), "json": reply([]), "events": stream()}
    return lambda path: (usual | answers).get(
        path.partition("?")[0].rpartition("/")[2], reply("no", "404 Not Found")
    )


@contextlib.asynccontextmanager
async def speaking(folder: Path, answer: Answer, *, stay: bool = False) -> AsyncGenerator[str]:
    """Serve ``answer`` on a unix socket in ``folder``; its URL. With ``stay``, connections are left open."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, IndexError):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(head.split()[1].decode()))
            await writer.drain()
            if stay:
                await ended.wait()
        writer.close()

    path = folder / "engine.sock"
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield f"unix://{path}"
    finally:
        ended.set()
        server.close()


@contextlib.asynccontextmanager
async def speaking_tcp(answer: bytes) -> AsyncGenerator[str]:
    """Send ``answer`` to whoever says a first byte, and hang up; its ``host:port``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
