"""One look at one instance, over the network. Raises nothing but cancellation: a fault is an answer too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from discoverd.model import Check, CheckKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.model import IPAddress

#: Seconds for a whole probe, connecting included.
TIMEOUT = 2.0
#: Bytes of an HTTP response's first line.
STATUS_LINE_MOST = 1024


async def probe(address: IPAddress, check: Check) -> str:
    """Look once; "" when all is well, else what was wrong in a few words."""
    look = {CheckKind.TCP: _tcp, CheckKind.HTTP: _http, CheckKind.DNS: _dns}[check.kind]
    try:
        async with asyncio.timeout(TIMEOUT):
            return await look(str(address), check)
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    except asyncio.IncompleteReadError:
        return "the connection was closed without an answer"
    except ValueError as error:
        return str(error)


async def _tcp(host: str, check: Check) -> str:
    """A connection is all that is asked for."""
    _, writer = await asyncio.open_connection(host, check.port)
    await _close(writer)
    return ""


async def _http(host: str, check: Check) -> str:
    """GET; any status from 200 to 399 is well (RFC 9110 section 15)."""
    reader, writer = await asyncio.open_connection(host, check.port, limit=STATUS_LINE_MOST)
    try:
        authority = f"[{host}]:{check.port}" if ":" in host else f"{host}:{check.port}"
        writer.write(
            f"GET {check.path or '/'} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: discoverd\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        return "no HTTP status line"
    finally:
        await _close(writer)
    return http_fault(line)


def http_fault(line: bytes) -> str:
    """What an HTTP response's first line says against its server."""
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/") or not status.isdigit():
        return "no HTTP status line"
    return "" if b"200" <= status < b"400" else f"HTTP status {status.decode()}"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _dns(host: str, check: Check) -> str:
    """A question for an A record over UDP; NOERROR is well, with records or without (RFC 1035, 4.1.1)."""
    loop = asyncio.get_running_loop()
    query = dns_query(check.path, secrets.randbits(16))
    said: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Reply(said, lambda data: data[:2] == query[:2]), remote_addr=(host, check.port)
    )
    try:
        transport.sendto(query)
        return dns_fault(await said)
    finally:
        transport.close()


def dns_query(name: str, ident: int) -> bytes:
    """A recursive question for ``name``'s A record. Raises ValueError for what is no name."""
    labels = [label.encode("ascii") for label in name.strip(".").split(".") if label]
    if any(len(label) > 63 for label in labels) or len(name) > 253:
        raise ValueError(f"{name!r} is no DNS name")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0\0\x01\0\x01"
    return ident.to_bytes(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + question


def dns_fault(reply: bytes) -> str:
    """What a reply says against its server."""
    if len(reply) < 12 or not reply[2] & 0x80:
        return "no DNS reply"
    return f"DNS response code {code}" if (code := reply[3] & 0x0F) else ""


class _Reply(asyncio.DatagramProtocol):
    """Settles ``said`` with the first datagram that is meant, or with the network's refusal."""

    def __init__(self, said: asyncio.Future[bytes], meant: Callable[[bytes], bool]) -> None:
        self._said, self._meant = said, meant

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio gives it
        if self._meant(data) and not self._said.done():
            self._said.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._said.done():
            self._said.set_exception(exc)
