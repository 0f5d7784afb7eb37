"""What only the agent knows is asked of it: prepared queries, Connect, datacenters that are not followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.test_consul_names import Asker, register
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.consul import ConsulAgent
    from tests.real.server import Server


def put(agent: ConsulAgent, ident: str, name: str, address: str, **more: object) -> None:
    register(agent, "ext", "192.0.2.1", ID=ident, Service=name, Address=address, Port=80, **more)


@pytest.fixture
def agents(consul_agents: Callable[..., ConsulAgent]) -> tuple[ConsulAgent, ConsulAgent]:
    """Two datacenters that know each other."""
    first, second = consul_agents("a1"), consul_agents("b1", {"datacenter": "dc2"})
    second.config["retry_join_wan"] = [f"127.0.0.1:{first.config['ports']['serf_wan']}"]
    first.start()
    second.start()
    put(first, "w1", "web", "10.1.0.1", Tags=["v1"])
    put(first, "w2", "web", "web.example")
    proxy = {"Kind": "connect-proxy", "Proxy": {"DestinationServiceName": "web"}}
    put(first, "p1", "web-proxy", "10.1.0.9", **proxy)
    put(second, "w1", "web", "10.2.0.1", Tags=["v2"])
    put(second, "b1", "backup", "10.2.0.2")
    until(
        lambda: first.api("/v1/catalog/services?dc=dc2").status == 200,
        timeout=60,
        message="the datacenters know each other",
    )
    local = {"Name": "local", "Service": {"Service": "web", "Tags": ["v1"]}, "DNS": {"TTL": "1m10s"}}
    failover = {"Name": "far", "Service": {"Service": "backup", "Failover": {"Datacenters": ["dc2"]}}}
    template = {
        "Name": "t-",
        "Template": {"Type": "name_prefix_match"},
        "Service": {"Service": "${name.suffix}"},
    }
    for query in (local, failover, template):
        assert first.api("/v1/query", "POST", query).status == 200
    return first, second


@pytest.fixture
def both(
    agents: tuple[ConsulAgent, ConsulAgent], discoverd: Callable[..., Server]
) -> Iterator[tuple[Asker, Asker, Server]]:
    server = discoverd("--consul", agents[0].url)
    server.wait_source("live", "consul")
    consul, ours = Asker(agents[0].dns_port), Asker(server.dns_port)
    until(lambda: ours("web.service.dc2.consul", "A").answer, message="the other datacenter is known")
    yield consul, ours, server
    consul.close()
    ours.close()


NAMES = [
    "local.query.consul", "LOCAL.query.dc1.consul", "far.query.consul", "t-web.query.consul",
    "t-nope.query.consul", "nope.query.consul", "a.b.query.consul", "local.query.dc2.consul",
    "local.query.dc9.consul", "web.connect.consul", "web.connect.dc1.consul", "nope.connect.consul",
    "web.ingress.consul", "web.service.dc2.consul", "v2.web.service.dc2.consul",
    "v1.web.service.dc2.consul", "_web._tcp.service.dc2.consul", "_web._v2.dc2.consul",
    "backup.service.dc2.consul", "nope.service.dc2.consul", "b1.node.dc2.consul", "nope.node.dc2.consul",
    "web.service.DC2.consul",
]  # fmt: skip


def test_the_agent_is_asked_for_what_only_it_knows(both: tuple[Asker, Asker, Server]) -> None:
    consul, ours, server = both
    for name in NAMES:
        for rtype in ("A", "SRV"):
            theirs, found = consul(name, rtype), ours(name, rtype)
            if rtype == "SRV" and ".node." in name and not theirs.answer:
                continue  # no data has its SOA, see test_consul_names
            kept = tuple(entry for entry in theirs.additional if entry[2] != "TXT")
            assert (found.rcode, found.answer, found.authority, found.additional) == (
                theirs.rcode, theirs.answer, theirs.authority, kept,
            ), f"{name} {rtype}"  # fmt: skip
            assert found.flags == theirs.flags, f"{name} {rtype}"
    assert server.dig("local.query.consul").answer[0].ttl == 70
    assert server.dig("local.query.consul", "A", "+notcp", "+noedns", "+norecurse").addresses == {"10.1.0.1"}
    for odd in (
        r"web\/x.connect.consul",
        r"local\/explain.query.consul",
        r"w\?a=b.connect.consul",
        "%2e.query.consul",
    ):
        assert server.dig(odd).nxdomain, odd


def test_the_last_answer_stands_in_while_the_agent_is_away(
    agents: tuple[ConsulAgent, ConsulAgent], both: tuple[Asker, Asker, Server]
) -> None:
    server = both[2]
    assert server.dig("far.query.consul").addresses == {"10.2.0.2"}
    for agent in agents:
        agent.kill()
    server.wait_source("stale", "consul")
    assert server.dig("far.query.consul").addresses == {"10.2.0.2"}
    assert server.dig("web.service.consul").addresses == {"10.1.0.1"}
    assert server.dig("local.query.consul").status == "SERVFAIL", "it was never asked"
