"""A whole server in this process, asked through real sockets with messages or with any octets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rdatatype

from discoverd.app import App
from discoverd.config import load
from discoverd.model import Address, Instance, Port, SourceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

#: Seconds for one reply; only a failing test waits that long.
TIMEOUT = 5.0
#: EDNS options.
NSID, COOKIE, KEEPALIVE = 3, 10, 11
QUIET: dict[str, Any] = {
    "listen": ["127.0.0.1:0"],
    "http": "off",
    "docker": ["off"],
    "upstream": ["off"],
    "state_dir": "off",
}


def instance(service: str, *ips: str, **fields: Any) -> Instance:
    """An instance of the source ``test``; ``ports`` may be plain numbers."""
    fields.setdefault("id", f"{service}/{'/'.join(ips)}")
    fields.setdefault("unique", f"{service}-{'-'.join(ips)}".replace(".", "-").replace(":", "-"))
    ports = tuple(p if isinstance(p, Port) else Port(p) for p in fields.pop("ports", ()))
    addresses = tuple(Address(ip_address(ip)) for ip in ips)
    return Instance(service=service, source="test", addresses=addresses, ports=ports, **fields)


class Serving:
    """The server under test. ``app`` is all of it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.host, self.port = app.listeners[0].host, app.listeners[0].port
        self._writer = app.registry.writer("test", "test")
        self._writer.status(SourceState.LIVE)

    def publish(self, *instances: Instance) -> None:
        """What the source ``test`` knows, from now on."""
        self._writer.replace({i.id: [i] for i in instances})

    async def octets(self, packet: bytes) -> bytes:
        """The datagram that comes back for one."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((self.host, self.port))
            await loop.sock_sendall(sock, packet)
            async with asyncio.timeout(TIMEOUT):
                return await loop.sock_recv(sock, 65535)

    async def silent(self, *packets: bytes) -> bool:
        """Whether these datagrams get no reply: only the question behind them does."""
        loop = asyncio.get_running_loop()
        last = dns.message.make_query("silent.docker", "A")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((self.host, self.port))
            for packet in (*packets, last.to_wire()):
                await loop.sock_sendall(sock, packet)
            async with asyncio.timeout(TIMEOUT):
                first = await loop.sock_recv(sock, 65535)
        return first[:2] == last.to_wire()[:2]

    async def connect(self) -> Stream:
        return Stream(*await asyncio.open_connection(self.host, self.port))

    async def ask(self, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
        """dnspython checks that id and question match, and that nothing stands behind the reply."""
        exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await exchange(query, self.host, timeout=TIMEOUT, port=self.port)

    async def ask_again(self, query: dns.message.Message) -> list[dns.message.Message]:
        """The replies to one query as it is answered by the resolver, from its parts, ready made, by TCP."""
        replies = [await self.ask(query) for _ in range(3)]
        return [*replies, *[await self.ask(query, tcp=True) for _ in range(2)]]


class Stream:
    """A TCP connection that frames messages, or sends any octets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *packets: bytes) -> None:
        """Each packet in a frame, all in one go."""
        await self.send_raw(b"".join(map(framed, packets)))

    async def send_raw(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """One message; IncompleteReadError where the connection ends instead."""
        async with asyncio.timeout(TIMEOUT):
            length = int.from_bytes(await self.reader.readexactly(2), "big")
            return await self.reader.readexactly(length)

    async def ended(self) -> bool:
        """Whether the server ends the connection, without another octet."""
        try:
            async with asyncio.timeout(TIMEOUT):
                rest = await self.reader.read(1)
        except ConnectionResetError:
            rest = b""
        await self.close()
        return not rest

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


def configured(folder: Path, text: str = "", **flags: Any) -> App:
    (folder / "discoverd.toml").write_text(text)
    return App(load({**QUIET, **flags}, {}, folder))


@asynccontextmanager
async def serving(folder: Path, text: str = "", **flags: Any) -> AsyncIterator[Serving]:
    """A server with this configuration, for as long as the block runs."""
    app = configured(folder, text, **flags)
    await app.start()
    try:
        yield Serving(app)
    finally:
        await app.stop()


def query(
    name: str,
    rtype: str = "A",
    *,
    options: Sequence[dns.edns.Option] | None = None,
    **edns: Any,
) -> dns.message.Message:
    """A query with RD clear; any EDNS argument of dnspython's, or ``options``, adds an OPT record."""
    if options is not None:
        edns["options"] = list(options)
    if edns:
        edns.setdefault("use_edns", 0)
    message = dns.message.make_query(name, rtype, **edns)
    message.flags &= ~dns.flags.RD
    return message


def option(code: int, data: bytes) -> dns.edns.Option:
    return dns.edns.GenericOption(dns.edns.OptionType.make(code), data)


def options(reply: dns.message.Message) -> dict[int, bytes]:
    """The options of a reply by code, as they came."""
    return {int(each.otype): each.to_wire() or b"" for each in reply.options}


def records(reply: dns.message.Message, rtype: str, section: str = "answer") -> list[str]:
    """The data of all records of a type in a section, in their order."""
    wanted = dns.rdatatype.from_text(rtype)
    return [str(r) for rrset in getattr(reply, section) if rrset.rdtype == wanted for r in rrset]
