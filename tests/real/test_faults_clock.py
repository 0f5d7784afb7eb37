"""A wall clock that is set forward and back: leases, drains, serials, cookies and what is kept go on."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.wallclock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.consul import ConsulAgent
    from tests.real.engine import Engine
    from tests.real.server import Server

DAY = 86400
#: A day on, years back, and as it should be.
STEPS = (DAY, -3650 * DAY, 0)
#: Its main process does nothing about SIGTERM.
STUBBORN = ("sh", "-c", "trap : TERM; while :; do sleep 0.1; done")


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    with or_left_out():
        return WallClock(tmp_path)


def put(server: Server, ident: str, lease: int) -> None:
    body = {"service": ident, "addresses": ["10.0.0.1"], "lease": lease}
    assert server.api(f"/v1/instances/{ident}", "PUT", body).status in (200, 201)


def serial(server: Server) -> int:
    return int(server.dig("docker", "SOA").data[0].split()[2])


def test_a_clock_that_is_stepped_while_it_serves(
    engine: Engine,
    containers: Containers,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    clock: WallClock,
) -> None:
    service = unique("web")
    ids = [
        containers.run(
            unique("c"), "--label", f"discoverd.service={service}", "--stop-timeout", "1", command=STUBBORN
        )
        for _ in range(2)
    ]
    both = {each["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for each in engine.inspect(*ids)}
    server = discoverd(docker=engine, env=clock.env)
    server.wait_answer(f"{service}.docker", both)
    put(server, "long", 3600)
    asked = server.dig("long.docker", "A", "+cookie")
    cookie = re.search(r"COOKIE: (\w+)", asked.text)
    assert cookie
    before = serial(server)
    for step in STEPS:
        clock.step(step)
        reply = server.dig("long.docker", "A", f"+cookie={cookie[1]}")
        assert reply.addresses == {"10.0.0.1"}, "a lease is counted in seconds, and a cookie is no condition"
        assert re.search(r"COOKIE: \w{48} \(good\)", reply.text)
        put(server, "short", 1)
        assert serial(server) > before, "a secondary takes no serial that is behind"
        before = serial(server)
        assert before > time.time() + DAY - 3600, "the clock was stepped, and serials never go back with it"
        server.wait_answer("short.docker", set())
        # one that is told to stop is left out for its stop timeout, and is back afterwards
        engine.docker("kill", "--signal", "TERM", ids[0])
        server.wait_answer(
            f"{service}.docker", both - {engine.inspect(ids[0])[0]["NetworkSettings"]["IPAddress"]}
        )
        server.wait_answer(f"{service}.docker", both)
    assert server.dig("long.docker").addresses == {"10.0.0.1"}
    server.wait_source("live")


def test_a_clock_that_was_stepped_while_it_was_down(
    consul_agent: ConsulAgent, discoverd: Callable[..., Server], tmp_path: Path, clock: WallClock
) -> None:
    from tests.real.test_warm_start import wait_kept

    state = tmp_path / "state"
    flags = ("--consul", consul_agent.url, "--state-dir", str(state))
    body = {"Name": "web", "ID": "web-1", "Address": "10.1.2.3"}
    assert consul_agent.api("/v1/agent/service/register", "PUT", body).status == 200
    server = discoverd(*flags, env=clock.env)
    server.wait_answer("web.docker", {"10.1.2.3"})
    put(server, "mine", 3600)
    wait_kept(state, '"service":"web"')
    consul_agent.kill()
    # a minute short of max_stale ahead; and behind what the files say that it was
    for step in (3000, -DAY):
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        clock.step(step)
        server = discoverd(*flags, env=clock.env)
        assert server.source("consul")["state"] == "stale"
        assert server.dig("web.docker").addresses == {"10.1.2.3"}
        assert server.dig("mine.docker").addresses == {"10.0.0.1"}
    consul_agent.start()
    server.wait_source("live", "consul")
    server.wait_answer("web.docker", set())
