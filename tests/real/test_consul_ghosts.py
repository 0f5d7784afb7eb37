"""No ghost: a registration never outlives its container, whoever was killed, in whatever order.

And on a real engine: what ``docker run``, ``docker stop`` and a HEALTHCHECK make of a registration.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from tests.conftest import MEASURED
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.conftest import Containers
    from tests.real.consul import ConsulAgent
    from tests.real.engine import Engine
    from tests.real.server import Server

SERVER = {"server": True, "bootstrap_expect": 1}
EXPORT = "[consul]\nexport = true\n"
#: Seconds until the agent has removed what nobody looks after: 15 s of TTL, a minute, half a minute between
#: two looks of the agent, and as much again for a busy machine.
RUN_OUT = 180.0


def held(agent: ConsulAgent, service: str) -> list[dict[str, Any]]:
    """The instances of a service in the catalog, with their checks."""
    entries: list[dict[str, Any]] = agent.api(f"/v1/health/service/{service}").json
    return entries


def passing(agent: ConsulAgent, service: str) -> bool:
    found = held(agent, service)
    return bool(found) and all(check["Status"] == "passing" for entry in found for check in entry["Checks"])


def kill(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


class Pair:
    """A discoverd and the agent that it registers a service with."""

    def __init__(self, agent: ConsulAgent, service: str, start: Callable[[], Server]) -> None:
        self.agent, self._service, self._start = agent, service, start
        self.server = start()

    def kill_server(self) -> None:
        kill(self.server)

    def start_server(self) -> None:
        self.server = self._start()

    def wait_passing(self) -> None:
        until(
            lambda: passing(self.agent, self._service),
            timeout=60,
            message=f"{self.agent.name} has {self._service}, and it passes",
        )

    def wait_gone(self, timeout: float) -> None:
        until(
            lambda: not held(self.agent, self._service),
            timeout=timeout,
            interval=0.1,
            message=lambda: f"{self.agent.name} has no ghost; it has {held(self.agent, self._service)}",
        )


def test_no_ghost_survives_whoever_is_killed(
    engine: Engine,
    containers: Containers,
    consul_agents: Callable[..., ConsulAgent],
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    record_property: Callable[[str, object], None],
) -> None:
    name = unique("ghost")
    containers.run(name, "--publish", "80", "--expose", "80", "--stop-timeout", "0")

    agents = [consul_agents(f"n{number}", SERVER, dev=False) for number in range(6)]
    for agent in agents:
        agent.launch()

    def pair(agent: ConsulAgent) -> Pair:
        agent.wait_ready()
        return Pair(agent, name, lambda: discoverd("--consul", agent.url, docker=engine, config=EXPORT))

    pairs = [pair(agent) for agent in agents]
    for each in pairs:
        each.wait_passing()
    only_server, both, only_agent, agent_first, server_first, nobody_back = pairs

    only_server.kill_server()
    both.kill_server()
    both.agent.kill()
    only_agent.agent.kill()
    agent_first.agent.kill()
    agent_first.kill_server()
    server_first.kill_server()
    server_first.agent.kill()
    nobody_back.kill_server()
    began = time.monotonic()
    engine.docker("rm", "--force", name)
    both.agent.start()
    only_agent.agent.start()
    agent_first.agent.start()
    agent_first.start_server()
    server_first.start_server()
    server_first.agent.start()

    for each in (only_agent, agent_first, server_first):
        each.wait_gone(30)
    until(lambda: not passing(nobody_back.agent, name), message="what nobody looks after is critical")
    for each in (only_server, both, nobody_back):
        each.wait_gone(RUN_OUT)
    record_property(
        f"{MEASURED}seconds from the end of all who looked after it until it is gone",
        round(time.monotonic() - began, 1),
    )


def test_a_container_is_registered_drains_and_goes(
    engine: Engine,
    containers: Containers,
    consul_agent: ConsulAgent,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    record_property: Callable[[str, object], None],
) -> None:
    config = EXPORT + f'[[docker]]\nurl = "{engine.url}"\nhost_address = "198.51.100.7"\n'
    server = discoverd("--consul", consul_agent.url, docker=engine, config=config)
    server.wait_source("live")
    server.wait_source("live", "consul")
    name = unique("web")
    stubborn = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    containers.run(name, "--publish", "80", "--stop-timeout", "3", command=stubborn)
    port = int(engine.docker("port", name, "80").splitlines()[0].rpartition(":")[2])
    until(lambda: passing(consul_agent, name), message="it is registered")
    service = held(consul_agent, name)[0]["Service"]
    assert (service["Address"], service["Port"]) == ("198.51.100.7", port)
    assert service["Meta"]["discoverd-instance"] == "dev"
    assert server.dig(f"{name}.docker").addresses == {
        engine.inspect(name)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    }, "it is counted once, as the container that it is"
    assert server.dig(f"{name}.service.consul").addresses == {"198.51.100.7"}
    assert [line.split()[2] for line in server.dig(f"{name}.service.consul", "SRV").data] == [str(port)]

    began = time.monotonic()
    engine.docker("kill", "--signal", "TERM", name)
    until(lambda: not passing(consul_agent, name), message="it drains: critical")
    assert held(consul_agent, name), "it is critical, and not gone"
    record_property(f"{MEASURED}ms from a stop signal to critical", round((time.monotonic() - began) * 1000))
    until(lambda: server.dig(f"{name}.service.consul").nxdomain, message="nobody is sent there any more")
    engine.docker("rm", "--force", name)
    until(lambda: not held(consul_agent, name), message="it is gone")
    assert server.terminate() == 0


def test_a_healthcheck_becomes_the_health_of_its_registration(
    engine: Engine,
    containers: Containers,
    consul_agent: ConsulAgent,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
) -> None:
    discoverd("--consul", consul_agent.url, docker=engine, config=EXPORT)
    name = unique("sick")
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1")
    containers.run(name, "--publish", "80", *check)

    def statuses() -> dict[str, str]:
        return {
            check["CheckID"].rpartition(":")[2]: check["Status"]
            for entry in held(consul_agent, name)
            for check in entry["Checks"]
            if check["ServiceID"]
        }

    until(lambda: statuses() == {"alive": "passing", "health": "critical"}, message="it is unhealthy")
    assert not passing(consul_agent, name)
    engine.docker("exec", name, "touch", "/tmp/well")
    until(lambda: statuses() == {"alive": "passing", "health": "passing"}, message="it is well")
