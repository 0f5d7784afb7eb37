"""Binding: both protocols on one port, and one clear line where that cannot be."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from discoverd.dns import server as dns_server
from discoverd.dns.server import BindError, DnsServer, bind, explain
from tests.dns.serving import instance, query, records, serving
from tests.fuzz.invariants import Subject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_any_port_is_one_port_for_both(host: str) -> None:
    listener = bind(host, 0)
    try:
        assert listener.udp.getsockname()[:2] == listener.tcp.getsockname()[:2] == (host, listener.port)
    finally:
        listener.close()


def test_any_port_is_found_where_udp_and_tcp_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is free for UDP and taken for TCP is tried once and left."""
    taken: list[int] = []
    bind_tcp = dns_server.bind_tcp

    def twice_taken(host: str, port: int) -> socket.socket:
        if len(taken) < 2:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "taken")
        return bind_tcp(host, port)

    monkeypatch.setattr(dns_server, "bind_tcp", twice_taken)
    listener = bind("127.0.0.1", 0)
    listener.close()
    assert len(taken) == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", taken[0]))  # nothing is left open


@pytest.mark.parametrize(("kind", "protocol"), [(socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")])
def test_a_port_in_use_is_named(kind: socket.SocketKind, protocol: str) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            holder.listen()
        with pytest.raises(BindError) as caught:
            bind("127.0.0.1", port)
    line = str(caught.value)
    assert line.startswith(f"cannot listen on 127.0.0.1:{port} ({protocol}): Address already in use")
    assert f"ss -lnp 'sport = :{port}'" in line
    assert "\n" not in line


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:53\d+ \(UDP\).*no such address"):
        bind("192.0.2.1", 5353)
    with pytest.raises(BindError, match=r"cannot listen on \[2001:db8::1\]:5353"):
        bind("2001:db8::1", 5353)


@pytest.mark.parametrize(
    ("where", "number", "expected"),
    [
        ("127.0.0.53:53", errno.EADDRINUSE, "DNSStubListener=no"),
        ("0.0.0.0:53", errno.EADDRINUSE, "DNSStubListener=no"),
        ("[::]:53", errno.EADDRINUSE, "DNSStubListener=no"),
        ("127.0.0.1:53", errno.EADDRINUSE, "ss -lnp"),
        ("127.0.0.1:53", errno.EACCES, "CAP_NET_BIND_SERVICE"),
    ],
)
def test_the_line_says_what_to_do(where: str, number: int, expected: str) -> None:
    assert expected in explain(where, 53, "UDP", OSError(number, "why"))


async def test_a_server_needs_a_handler_and_sockets_only() -> None:
    """No registry, no configuration: composed by hand, and stopped without a trace."""
    subject, listener = Subject(), bind("127.0.0.1", 0)
    server = DnsServer([listener], subject.handler)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    asked = query("web.docker").to_wire()
    writer.write(len(asked).to_bytes(2, "big") + asked)
    length = int.from_bytes(await reader.readexactly(2), "big")
    assert (await reader.readexactly(length))[:2] == asked[:2]
    await server.stop_accepting()
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    bind("127.0.0.1", listener.port).close()


async def test_every_listener_answers(tmp_path: Path) -> None:
    async with serving(tmp_path, listen=["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"]) as server:
        server.publish(instance("web", "192.0.2.1"))
        for listener in server.app.listeners:
            server.host, server.port = listener.host, listener.port
            for tcp in (False, True):
                reply = await server.ask(query("web.docker"), tcp=tcp)
                assert records(reply, "A") == ["192.0.2.1"]
                own = await server.ask(query("ns.docker", "ANY"), tcp=tcp)
                assert own.answer
