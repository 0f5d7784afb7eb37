"""No file descriptor left: what is known is answered, what needs a new one waits, and nothing is lost."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
import dns.query
import pytest

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

pytestmark = pytest.mark.docker

CONFIG = """
[[service]]
name = "printer"
addresses = ["192.0.2.7"]
"""
#: More than there can be descriptors for.
CONNECTIONS = 50
SAID = "connections wait: Too many open files"


@contextmanager
def starved(pid: int) -> Generator[None]:
    """A process that cannot open anything more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def address(engine: Engine, name: str) -> str:
    given: str = engine.inspect(name)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return given


def test_no_file_descriptor_is_left(
    engine: Engine,
    containers: Containers,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
) -> None:
    here, late = unique("here"), unique("late")
    containers.run(here)
    server = discoverd(docker=engine, config=CONFIG)
    server.wait_answer(f"{here}.docker", {address(engine, here)})
    host = "127.0.0.1"
    with ExitStack() as stack:
        with starved(server.process.pid):
            waiting = [
                stack.enter_context(socket.create_connection((host, port), timeout=10))
                for port in [server.dns_port] * CONNECTIONS + [server.http_port] * CONNECTIONS
            ]
            until(lambda: SAID in server.log_text, message=lambda: server.log_text)
            containers.run(late)
            for asker in ("127.0.0.1", "127.0.0.77"):  # known, and not seen before
                for name, expected in (("printer", {"192.0.2.7"}), (here, {address(engine, here)})):
                    reply = server.dig(f"{name}.docker", "A", "-b", asker)
                    assert reply.addresses == expected, reply.text
                assert server.dig("printer.docker", "AAAA", "-b", asker).nodata
                assert server.dig("nobody.docker", "A", "-b", asker).status in ("NXDOMAIN", "SERVFAIL")
        # those that waited are served
        query = dns.message.make_query("printer.docker", "A")
        for sock in waiting[:CONNECTIONS]:
            dns.query.send_tcp(sock, query)
        for sock in waiting[:CONNECTIONS]:
            answered, _ = dns.query.receive_tcp(sock)
            assert query.is_response(answered)
            assert [str(r) for r in answered.answer[0]] == ["192.0.2.7"]
    assert server.api("/healthz").status == 200
    server.wait_source("live")
    server.wait_answer(f"{late}.docker", {address(engine, late)})
    server.wait_answer(f"{here}.docker", {address(engine, here)})
    body = {"service": "made", "addresses": ["192.0.2.8"]}
    assert server.api("/v1/instances/made", "PUT", body).status == 201
    assert server.log_text.count(SAID) == 1, server.log_text
