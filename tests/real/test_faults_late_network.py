"""A server that starts before there is any network: no address, no route, nobody in reach."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import need
from tests.real.lan import Lan
from tests.real.netns import Namespace
from tests.real.place import ask
from tests.real.server import Server
from tests.real.session import bridge
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.engine import HostedEngine
    from tests.real.session import Session

pytestmark = pytest.mark.docker

CONFIG = """
[[service]]
name = "printer"
addresses = ["192.0.2.7"]
"""
UPSTREAM = 5399
#: Of the ranges for documentation: none that every server trusts from the beginning.
PUBLIC, NEIGHBOUR = "198.51.100.1", "198.51.100.9"


def ip(namespace: str, *words: str) -> None:
    subprocess.run([need("ip", "iproute2"), "-n", namespace, *words], check=True, capture_output=True)


@pytest.fixture
def lan(session: Session) -> Generator[Lan]:
    with or_left_out():
        made = Lan(session, 7)
    yield made
    made.close()


@pytest.fixture
def host(session: Session) -> Generator[Namespace]:
    """A host whose only interface is loopback, until it is given more."""
    slot = session.slot
    with or_left_out():
        made = Namespace(f"{bridge(slot)}v8", f"10.{slot}.8")
    ip(made.name, "address", "flush", "dev", "eth0")
    yield made
    made.close()


def test_a_network_that_comes_late(
    lan: Lan,
    host: Namespace,
    engine_host: Callable[..., HostedEngine],
    tmp_path: Path,
) -> None:
    engine = engine_host("late", 5, "--host", "tcp://0.0.0.0:2374")
    assert engine.daemon.namespace
    far = lan.join(engine.daemon.namespace)
    engine.run("one")
    one = {engine.inspect("one")[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]}
    upstream = Server(
        tmp_path / "upstream",
        *("--domain", "corp.example"),
        listen=f":{UPSTREAM}",
        config='[[service]]\nname = "www"\naddresses = ["192.0.2.80"]\n',
        prefix=lan.enter,
        http="off",
    )
    server = Server(
        tmp_path / "server",
        *("--docker", f"tcp://{far}:2374", "--upstream", f"{lan.address}:{UPSTREAM}"),
        listen=":53",
        config=CONFIG,
        prefix=tuple(host.enter),
        http="off",
    )
    try:
        upstream.wait_listening()
        server.wait_listening()

        def inside(name: str) -> tuple[str, set[str]]:
            reply = ask(host.enter, "127.0.0.1", 53, f"{name}.", "A")
            return reply.status, reply.addresses

        def outside(name: str, address: str) -> tuple[str, set[str]]:
            reply = ask(lan.enter, address, 53, f"{name}.", "A")
            return reply.status, reply.addresses

        assert inside("printer.docker") == ("NOERROR", {"192.0.2.7"})
        assert inside("one.docker") == ("SERVFAIL", set()), "it is not known yet, and not denied"
        assert inside("www.corp.example") == ("SERVFAIL", set())

        address = lan.join(host)
        until(lambda: inside("one.docker") == ("NOERROR", one), message=lambda: server.log_text)
        until(
            lambda: inside("www.corp.example") == ("NOERROR", {"192.0.2.80"}), message=lambda: server.log_text
        )
        assert inside("two.docker") == ("NXDOMAIN", set())
        for name, addresses in (("printer.docker", {"192.0.2.7"}), ("www.corp.example", {"192.0.2.80"})):
            assert outside(name, address) == ("NOERROR", addresses)

        # whoever is on a network of the machine may have names forwarded, also when that comes later
        switch = lan.enter[-1].rpartition("/")[2]
        ip(switch, "address", "add", f"{NEIGHBOUR}/24", "dev", "lan")
        ip(host.name, "address", "add", f"{PUBLIC}/24", "dev", "lan")
        until(
            lambda: outside("www.corp.example", PUBLIC) == ("NOERROR", {"192.0.2.80"}),
            message=lambda: f"{outside('www.corp.example', PUBLIC)}\n{server.log_text}",
        )
    finally:
        server.close()
        upstream.close()


def test_an_address_that_is_not_there_yet(host: Namespace, tmp_path: Path) -> None:
    """It is said, and a supervisor's next attempt finds it."""
    listen, enter = f"{host.address}:53", tuple(host.enter)
    refused = Server(tmp_path / "refused", listen=listen, http="off", prefix=enter)
    assert refused.process.wait(60) == 1
    assert f"cannot listen on {host.address}:53 (UDP): " in refused.log_text
    assert "this machine has no such address" in refused.log_text
    assert len(refused.log_text.splitlines()) == 1
    ip(host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
    again = Server(tmp_path / "again", listen=listen, http="off", config=CONFIG, prefix=enter)
    try:
        again.wait_listening()
        reply = ask((), host.address, 53, "printer.docker.", "A")
        assert reply.addresses == {"192.0.2.7"}
    finally:
        again.close()
