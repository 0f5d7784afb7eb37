"""Ten thousand connections, those that do not read, those that never finish: others are served."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dns.message
import dns.query
import pytest

from bench.tools import cpu_seconds, resident_bytes
from discoverd.dns.limits import CONNECTIONS_MOST, CONNECTIONS_PER_CLIENT
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

ADDRESSES = ", ".join(f'"10.0.{i // 250}.{i % 250}"' for i in range(2000))
MANY = f"""
[[service]]
name = "many"
addresses = [{ADDRESSES}]
[[service]]
name = "web"
addresses = ["192.0.2.1"]
"""
CONNECTIONS, EACH = 10_000, 100
MIB = 2**20
TIMEOUT = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    made = Server(tmp_path / "discoverd", config=MANY)
    made.wait_listening()
    yield made
    made.close()


def connect(server: Server, stack: ExitStack, source: str) -> socket.socket:
    sock = stack.enter_context(socket.socket())
    sock.settimeout(TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", server.dns_port))
    return sock


def others_are_served(server: Server) -> None:
    query = dns.message.make_query("web.docker", "A")
    for ask in (dns.query.tcp, dns.query.udp):
        assert len(ask(query, "127.0.0.1", TIMEOUT, server.dns_port).answer) == 1
    assert server.api("/healthz").status == 200


def metric(server: Server, name: str) -> int:
    (line,) = [each for each in server.api("/metrics").text.splitlines() if each.startswith(name)]
    return int(float(line.split()[-1]))


def test_ten_thousand_connections(server: Server) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < CONNECTIONS + 500:
        pytest.skip(f"{most} files may be open, which is too few for the other side")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, CONNECTIONS + 500), most))
    before = resident_bytes(server.process.pid)
    with ExitStack() as stack:
        for number in range(CONNECTIONS):
            connect(server, stack, f"127.0.{1 + number // EACH}.1")
        others_are_served(server)
        assert metric(server, "discoverd_dns_tcp_connections ") <= CONNECTIONS_MOST
        assert resident_bytes(server.process.pid) - before < 100 * MIB
    until(lambda: metric(server, "discoverd_dns_tcp_connections ") < 10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def test_who_does_not_read_and_who_never_finishes(server: Server) -> None:
    """From two addresses, as many connections as one may have."""
    query = dns.message.make_query("many.docker", "A").to_wire()
    question = len(query).to_bytes(2, "big") + query
    before = resident_bytes(server.process.pid)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_PER_CLIENT):
            connect(server, stack, "127.0.1.1").sendall(question * 50)
            connect(server, stack, "127.0.2.1").sendall(question[:10])
        for _ in range(3):
            others_are_served(server)
        # 64 KiB and one answer of 32 KiB for each that does not read, and what the kernel's buffers are for
        assert resident_bytes(server.process.pid) - before < 100 * MIB


def test_many_questions_on_many_connections(server: Server) -> None:
    """Each sends as much as it can of what goes to the resolver: they, and others, take turns."""
    asked = dns.message.make_query("web.docker", "TYPE4711").to_wire()
    questions = (len(asked).to_bytes(2, "big") + asked) * 2000
    with ExitStack() as stack:
        floods = [connect(server, stack, "127.0.1.1") for _ in range(50)]
        for each in floods:
            each.setblocking(False)
            each.send(questions)
        before = sum(cpu_seconds(server.process.pid))
        others_are_served(server)
        # all that they have sent takes many seconds
        assert sum(cpu_seconds(server.process.pid)) - before < 2.0
