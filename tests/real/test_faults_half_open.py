"""A TCP connection to an engine that leads nowhere any more, while this end still has it for open."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.real.debian import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.engine import Engine, HostedEngine
    from tests.real.server import Server

pytestmark = pytest.mark.docker


def silence(engine: HostedEngine, *, on: bool) -> None:
    """Whatever comes to the engine's port, or leaves it, is dropped without a word."""
    assert engine.daemon.namespace
    verb = "-I" if on else "-D"
    for chain, port in (("INPUT", "--dport"), ("OUTPUT", "--sport")):
        rule = (chain, "-p", "tcp", port, "2375", "-j", "DROP")
        command = [*engine.daemon.namespace.enter, need("iptables", "iptables"), "-w", verb, *rule]
        subprocess.run(command, check=True, capture_output=True)


def address(engine: Engine, name: str) -> str:
    given: str = engine.inspect(name)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return given


def test_a_half_open_connection(own_engine: HostedEngine, discoverd: Callable[..., Server]) -> None:
    for name in ("stays", "goes"):
        own_engine.run(name, "--restart", "always", "--label", "discoverd.ttl=300")
    assert own_engine.daemon.namespace
    server = discoverd(docker=f"tcp://{own_engine.daemon.namespace.address}:2375")
    server.wait_source("live")
    known = {name: address(own_engine, name) for name in ("stays", "goes")}
    for name, ip in known.items():
        server.wait_answer(f"{name}.docker", {ip})

    silence(own_engine, on=True)
    # the engine that comes back has never heard of the connection
    own_engine.kill()
    own_engine.start()
    own_engine.docker("rm", "--force", "goes")
    own_engine.run("comes")
    said = server.wait_source("stale", timeout=120)
    assert said["last_error"]
    for name, ip in known.items():
        reply = server.dig(f"{name}.docker")
        assert reply.addresses == {ip}, "the last known"
        assert [record.ttl for record in reply.answer] == [5]

    silence(own_engine, on=False)
    server.wait_source("live", timeout=60)
    for name in ("stays", "comes"):
        server.wait_answer(f"{name}.docker", {address(own_engine, name)})
    assert server.dig("goes.docker").nodata
    own_engine.run("next")
    server.wait_answer("next.docker", {address(own_engine, "next")})
