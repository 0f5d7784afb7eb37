"""Ten thousand services of three instances in a real agent: what it costs to follow them.

One service's change is to cost the same with a hundred and with ten thousand.
"""

from __future__ import annotations

import os
import random
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query
import pytest

from tests.conftest import MEASURED
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.consul import ConsulAgent
    from tests.real.server import Server

FEW, MANY = 100, 10_000
NODES = 100
#: Changes that are timed, and changes whose processor time is counted.
TIMED, COUNTED = 60, 150
#: Seconds between two counted changes: none is to profit from another's waking.
PACE = 0.02
#: Seconds that nothing happens, to see what that costs.
REST = 10.0
#: Operations of one transaction at most.
BATCH = 64
#: Connections for all services, and for other things.
SPARE = 1500


def populate(agent: ConsulAgent, services: int) -> None:
    """Services of three instances each, spread over the nodes of an external cluster."""
    for node in range(NODES):
        body = {"Node": f"n{node}", "Address": f"10.200.0.{node}"}
        assert agent.api("/v1/catalog/register", "PUT", body).status == 200
    operations = [
        {
            "Service": {
                "Verb": "set",
                "Node": f"n{(number * 3 + copy) % NODES}",
                "Service": service(number, copy),
            }
        }
        for number in range(services)
        for copy in range(3)
    ]
    for begin in range(0, len(operations), BATCH):
        reply = agent.api("/v1/txn", "PUT", operations[begin : begin + BATCH])
        assert reply.status == 200, reply.text


def node_of(number: int, copy: int = 0) -> str:
    return f"n{(number * 3 + copy) % NODES}"


def service(number: int, copy: int, address: str = "") -> dict[str, Any]:
    return {
        "ID": f"s{number}-{copy}",
        "Service": f"svc-{number}",
        "Address": address or f"10.{copy}.{number // 250}.{number % 250}",
        "Port": 80,
        "Tags": ["v1"],
    }


def change(agent: ConsulAgent, number: int, address: str) -> None:
    """Give the first instance of a service another address."""
    node = node_of(number)
    body = {"Node": node, "Address": f"10.200.0.{node[1:]}", "SkipNodeUpdate": True}
    reply = agent.api("/v1/catalog/register", "PUT", body | {"Service": service(number, 0, address)})
    assert reply.status == 200


def processor_seconds(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def resident_megabytes(pid: int) -> int:
    lines = [line for line in _read(pid, "status").splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) // 1024


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def connections(port: int) -> int:
    """Connections of this machine to one of its ports."""
    wanted = f"0100007F:{port:04X}"
    return sum(line.split()[2] == wanted for line in _read(os.getpid(), "net/tcp").splitlines()[1:])


def answered(port: int, name: str, address: str) -> float:
    """Ask again and again until an address is among the answers; when that was."""
    question = dns.message.make_query(name, "A")

    def is_there() -> bool:
        reply = dns.query.udp(question, "127.0.0.1", port=port, timeout=10)
        return any(str(data) == address for rrset in reply.answer for data in rrset)

    until(is_there, interval=0.001, message=f"{name} has {address}")
    return time.perf_counter()


@dataclass
class Figures:
    """Of one size: seconds, megabytes, percent of a core, milliseconds."""

    sync: float
    memory: int
    agent_memory: int
    connections: int
    rest: float
    agent_rest: float
    ours: list[float]
    theirs: list[float]
    change: float
    agent_change: float

    def __str__(self) -> str:
        def spread(values: list[float]) -> str:
            ordered = sorted(values)
            return f"p50 {ordered[len(ordered) // 2]:.0f} p99 {ordered[int(len(ordered) * 0.99)]:.0f} ms"

        return (
            f"first sync {self.sync:.1f} s, {self.connections} connections, {self.memory} MB"
            f" (agent +{self.agent_memory} MB), at rest {self.rest:.1f}% of a core"
            f" (agent {self.agent_rest:.1f}%),"
            f" change to answer {spread(self.ours)} (Consul's DNS {spread(self.theirs)}),"
            f" a change costs {self.change:.1f} ms (agent {self.agent_change:.1f} ms)"
        )


def measure(
    consul_agents: Callable[..., ConsulAgent], discoverd: Callable[..., Server], services: int
) -> Figures:
    agent = consul_agents(f"a{services}", {"limits": {"http_max_conns_per_client": services + SPARE}})
    agent.start()
    populate(agent, services)
    before = resident_megabytes(agent.pid)
    began = time.monotonic()
    # half of the agent's limit is otherwise left to queries of a discoverd that was killed
    config = f'[consul]\nurl = "{agent.url}"\nmax_watches = {services + 100}\n'
    server = discoverd(config=config)
    # the log and not its HTTP side: a machine that is busy may leave it too little to answer in time
    until(lambda: "in step" in server.log_text, timeout=300, message=lambda: server.log_text)
    source = server.wait_source("live", "consul", timeout=60)
    sync = time.monotonic() - began
    detail = source["detail"]
    assert isinstance(detail, dict)
    assert (detail["watched"], detail["polled"]) == (services + 1, 0)
    assert source["instances"] == 3 * services + 1
    pids = server.process.pid, agent.pid
    until(lambda: connections(agent.http_port) >= services, timeout=60, message="all services are watched")

    ours, theirs = [], []
    for turn in range(TIMED):
        number, address = random.randrange(services), f"10.77.0.{turn}"
        times: dict[int, float] = {}

        def watch(port: int, number: int = number, address: str = address, times: Any = times) -> None:
            times[port] = answered(port, f"svc-{number}.service.consul", address)

        threads = [threading.Thread(target=watch, args=(port,)) for port in (server.dns_port, agent.dns_port)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        change(agent, number, address)
        for thread in threads:
            thread.join()
        ours.append((times[server.dns_port] - started) * 1000)
        theirs.append((times[agent.dns_port] - started) * 1000)

    spent = [processor_seconds(pid) for pid in pids]
    time.sleep(REST)
    rest = [(processor_seconds(pid) - b) / REST * 100 for pid, b in zip(pids, spent, strict=True)]

    spent, started = [processor_seconds(pid) for pid in pids], time.perf_counter()
    for turn in range(COUNTED):
        change(agent, random.randrange(services), f"10.78.0.{turn}")
        time.sleep(PACE)
    until(lambda: answered(server.dns_port, "svc-0.docker", "10.1.0.0"), message="it answers")
    lasted = time.perf_counter() - started
    costs = [
        (processor_seconds(pid) - before - lasted * idle / 100) / COUNTED * 1000
        for pid, before, idle in zip(pids, spent, rest, strict=True)
    ]

    figures = Figures(
        sync=sync,
        memory=resident_megabytes(pids[0]),
        agent_memory=resident_megabytes(pids[1]) - before,
        connections=connections(agent.http_port),
        rest=rest[0],
        agent_rest=rest[1],
        ours=ours,
        theirs=theirs,
        change=costs[0],
        agent_change=costs[1],
    )
    detail = server.source("consul")["detail"]
    assert isinstance(detail, dict)
    assert detail["outages"] == 0
    assert server.terminate(timeout=120) == 0  # ten thousand queries end with it
    agent.kill()
    return figures


def test_a_change_costs_the_same_with_few_and_with_many(
    consul_agents: Callable[..., ConsulAgent],
    discoverd: Callable[..., Server],
    record_property: Callable[[str, object], None],
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MANY if hard == resource.RLIM_INFINITY else min(MANY, hard - 2 * SPARE)
    if most < 10 * FEW:
        pytest.skip(
            f"only {hard} files may be open here, and a service needs one each in the agent and in discoverd"
        )
    few = measure(consul_agents, discoverd, FEW)
    many = measure(consul_agents, discoverd, most)
    record_property(f"{MEASURED}{FEW} services of 3 instances in Consul", str(few))
    record_property(f"{MEASURED}{most} services of 3 instances in Consul", str(many))
    assert many.change < 3 * few.change + 2, "a change costs as much with many services as with few"
    assert sorted(many.ours)[TIMED // 2] < 3 * sorted(many.theirs)[TIMED // 2] + 50, (
        "as soon as Consul's own DNS"
    )
    assert many.rest < 10, "at rest next to nothing happens"
