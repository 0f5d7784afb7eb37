"""Engines that stop, die, hang, or are not there yet: answers go on, and get in step again by themselves."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.engine import Engine, HostedEngine
    from tests.real.server import Server

CONFIG = """
[[service]]
name = "printer"
addresses = ["192.0.2.7"]
"""


def address(engine: Engine, name: str) -> str:
    (found,) = engine.inspect(name)
    assert found["State"]["Running"], f"{name} runs"
    given: str = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return given


def assert_static_answers(server: Server) -> None:
    assert server.dig("printer.docker").data == ["192.0.2.7"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_engine_ends_and_comes_back(
    own_engine: HostedEngine, discoverd: Callable[..., Server], end: str
) -> None:
    for name, policy in (("always", "always"), ("once", "no"), ("doomed", "always")):
        own_engine.run(name, "--restart", policy)
    server = discoverd(docker=own_engine, config=CONFIG)
    server.wait_source("live")
    known = {name: address(own_engine, name) for name in ("always", "once", "doomed")}
    for name, ip in known.items():
        server.wait_answer(f"{name}.docker", {ip})

    getattr(own_engine, end)()
    said = server.wait_source("stale")
    assert said["last_error"]
    assert_static_answers(server)
    for name, ip in known.items():
        reply = server.dig(f"{name}.docker")
        assert reply.status == "NOERROR", reply.text
        # A killed engine leaves its containers running. One that is told to stop ends them first, and
        # says so of as many as it can.
        assert reply.addresses <= {ip}
        assert end == "stop" or reply.addresses == {ip}
        assert all(record.ttl <= 5 for record in reply.answer)

    # Containers come and go while discoverd sees nothing of it.
    server.freeze()
    own_engine.start()
    own_engine.docker("rm", "--force", "doomed")
    own_engine.run("new")
    passing = own_engine.run("passing")
    own_engine.docker("rm", "--force", passing)
    server.thaw()
    server.wait_source("live")
    for name in ("always", "new"):
        server.wait_answer(f"{name}.docker", {address(own_engine, name)})
    for name in ("once", "doomed"):
        server.wait_answer(f"{name}.docker", set())
        assert server.dig(f"{name}.docker").nodata, "it was there a moment ago"
    assert server.dig("passing.docker").nxdomain

    # And it hears of what happens next.
    own_engine.docker("start", "once")
    server.wait_answer("once.docker", {address(own_engine, "once")})
    assert_static_answers(server)


def test_containers_that_outlive_their_engine(
    engine_host: Callable[..., HostedEngine], discoverd: Callable[..., Server]
) -> None:
    # With live-restore a container that ends while the engine is away gets no event, ever.
    engine = engine_host("live", 1, "--live-restore")
    for name in ("stays", "ends"):
        engine.run(name)
    server = discoverd(docker=engine)
    server.wait_source("live")
    stays = address(engine, "stays")
    (ends,) = engine.inspect("ends")

    engine.stop()
    server.wait_source("stale")
    os.kill(ends["State"]["Pid"], signal.SIGKILL)
    for name in ("stays", "ends"):
        assert len(server.dig(f"{name}.docker").answer) == 1
    engine.start()
    server.wait_source("live")
    server.wait_answer("ends.docker", set())
    assert server.dig("stays.docker").data == [stays]


def test_engine_hangs(own_engine: HostedEngine, discoverd: Callable[..., Server]) -> None:
    own_engine.run("one")
    server = discoverd(docker=own_engine, config=CONFIG)
    server.wait_source("live")
    one = address(own_engine, "one")
    own_engine.freeze()
    for _ in range(3):
        assert server.dig("one.docker").data == [one]
        assert_static_answers(server)
        assert server.dig("two.docker").nxdomain
    own_engine.thaw()
    own_engine.run("two")
    server.wait_answer("two.docker", {address(own_engine, "two")})


def test_discoverd_starts_before_the_engine(
    own_engine: HostedEngine, discoverd: Callable[..., Server]
) -> None:
    own_engine.run("one", "--restart", "always")
    own_engine.stop()
    server = discoverd(docker=own_engine, config=CONFIG)
    assert_static_answers(server)
    assert server.dig("printer.docker", "AAAA").nodata
    for name in ("one.docker", "no-such.docker", "web.shop.docker"):
        reply = server.dig(name)
        assert reply.status == "SERVFAIL", reply.text
    assert server.source()["state"] == "syncing"
    assert server.api("/readyz").status == 503

    own_engine.start()
    server.wait_source("live")
    assert server.api("/readyz").status == 200
    server.wait_answer("one.docker", {address(own_engine, "one")})
    assert server.dig("no-such.docker").nxdomain
    assert_static_answers(server)
