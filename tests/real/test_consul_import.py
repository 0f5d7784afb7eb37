"""What a real agent knows becomes instances, stays while the agent is away, and is right again after."""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from discoverd.model import Health, State
from discoverd.naming import bindings
from tests.real.following import Followed, ask, deregister, following, register
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from discoverd.model import Instance
    from tests.real.consul import ConsulAgent, ConsulCluster


async def test_what_is_registered_becomes_an_instance(consul_agent: ConsulAgent) -> None:
    six = {"lan_ipv6": {"Address": "2001:db8::1", "Port": 80}, "wan": {"Address": "198.51.100.1", "Port": 80}}
    await register(
        consul_agent, "Web", ID="w1", Address="10.0.0.1", Port=80, Tags=["v1"], Meta={"a": "b"},
        Weights={"Passing": 7, "Warning": 2}, TaggedAddresses=six, check="passing",
    )  # fmt: skip
    await register(consul_agent, "bare", Tags=None)
    async with following(consul_agent) as followed:
        await followed.state("live")
        (web,) = followed.instances("web")
        assert (web.scope, web.source, web.health, web.state) == (
            "dc1", "consul", Health.HEALTHY, State.RUNNING,
        )  # fmt: skip
        assert [str(a.ip) for a in web.addresses] == ["10.0.0.1", "2001:db8::1"]
        assert ([p.port for p in web.ports], web.tags, web.meta, web.weight) == (
            [80], ("v1",), (("a", "b"),), 7,
        )  # fmt: skip
        assert {"web", "web.dc1", "v1.web", web.unique} <= set(bindings(web))
        (bare,) = followed.instances("bare")
        assert ([str(a.ip) for a in bare.addresses], bare.ports) == (["127.0.0.1"], ())
        assert followed.addresses("consul") == {"127.0.0.1"}
    async with following(consul_agent, tagged_address="wan") as followed:
        await followed.state("live")
        assert followed.instances("web")[0].addresses[0].ip == ip_address("198.51.100.1")


async def test_changes_are_followed(consul_agent: ConsulAgent) -> None:
    async with following(consul_agent) as followed:
        await followed.state("live")
        await register(consul_agent, "web", Address="10.0.0.1", Port=80, check="passing",
                       Weights={"Passing": 7, "Warning": 2})  # fmt: skip
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.1"}, "web is there")

        await ask(consul_agent, "/v1/agent/check/warn/check-web")
        await followed.until(lambda: followed.instances("web")[0].weight == 2, "a warning weighs less")
        assert followed.instances("web")[0].health is Health.HEALTHY

        await ask(consul_agent, "/v1/agent/check/fail/check-web")
        await followed.until(
            lambda: followed.instances("web")[0].health is Health.UNHEALTHY, "a critical check counts"
        )
        await ask(consul_agent, "/v1/agent/check/pass/check-web")
        await followed.until(lambda: followed.instances("web")[0].health is Health.HEALTHY, "it is well")

        await ask(consul_agent, "/v1/agent/service/maintenance/web?enable=true")
        await followed.until(lambda: followed.instances("web")[0].state is State.PAUSED, "maintenance")
        await ask(consul_agent, "/v1/agent/service/maintenance/web?enable=false")
        await followed.until(lambda: followed.instances("web")[0].state is State.RUNNING, "maintenance ends")
        await ask(consul_agent, "/v1/agent/maintenance?enable=true")
        await followed.until(
            lambda: followed.instances("web")[0].state is State.PAUSED, "maintenance of the node"
        )
        await ask(consul_agent, "/v1/agent/maintenance?enable=false")

        await register(consul_agent, "web", Address="10.0.0.2", Port=81, Tags=["new"])
        await followed.until(
            lambda: {(p.port, *i.tags) for i in followed.instances("web") for p in i.ports} == {(81, "new")},
            "address, port and tags change",
        )
        await register(consul_agent, "web", ID="web-2", Address="10.0.0.3", Port=81)
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.2", "10.0.0.3"}, "a second one")
        await deregister(consul_agent, "web")
        await deregister(consul_agent, "web-2")
        await followed.until(lambda: not followed.instances("web"), "web is gone")
        await register(consul_agent, "web", Address="10.0.0.4")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.4"}, "web is there again")
        assert followed.status().detail["outages"] == 0


async def test_only_passing_leaves_warnings_out(consul_agent: ConsulAgent) -> None:
    await register(consul_agent, "web", check="warning")
    async with following(consul_agent, only_passing=True) as followed:
        await followed.state("live")
        assert followed.instances("web")[0].health is Health.UNHEALTHY


async def test_names_in_several_letter_cases_are_one_service(consul_agent: ConsulAgent) -> None:
    async with following(consul_agent) as followed:
        await followed.state("live")
        await register(consul_agent, "Api", ID="a1", Address="10.0.0.1")
        await register(consul_agent, "api", ID="a2", Address="10.0.0.2")
        await followed.until(lambda: followed.addresses("api") == {"10.0.0.1", "10.0.0.2"}, "both are there")
        assert len(followed.instances("api")) == 2
        await deregister(consul_agent, "a2")
        await followed.until(lambda: followed.addresses("api") == {"10.0.0.1"}, "one is left")


async def test_an_agent_that_begins_anew_is_followed_from_its_beginning(consul_agent: ConsulAgent) -> None:
    """A dev agent loses everything and counts from less: a query with the old index would sleep."""
    for number in range(20):
        await register(consul_agent, f"s{number}", Port=1)
    await register(consul_agent, "web", Address="10.0.0.1")
    async with following(consul_agent) as followed:
        await followed.state("live")
        await asyncio.to_thread(consul_agent.kill)
        await followed.state("stale", timeout=10)
        assert followed.addresses("web") == {"10.0.0.1"}, "what was known stays"
        await asyncio.to_thread(consul_agent.start)
        await register(consul_agent, "web", Address="10.0.0.2")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.2"}, "the new web", timeout=20)
        await followed.state("live")
        await followed.until(lambda: not followed.instances("s1"), "what the agent forgot is gone")
        await register(consul_agent, "web", Address="10.0.0.3")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.3"}, "changes go on", timeout=5)
        assert followed.status().detail["outages"] == 1


async def test_a_state_that_was_restored_is_believed_though_its_index_is_lower(
    consul_agents: Callable[..., ConsulAgent],
) -> None:
    agent = consul_agents("s1", {"server": True, "bootstrap_expect": 1}, dev=False)
    await asyncio.to_thread(agent.start)
    register_node = "/v1/catalog/register"
    web = {"Node": "ext", "Address": "10.0.0.9", "Service": {"Service": "web", "Address": "10.0.0.1"}}
    await ask(agent, register_node, body=web)
    snapshot = await asyncio.to_thread(_snapshot, agent.url)
    async with following(agent) as followed:
        await followed.state("live")
        for number in range(5):
            other = {"Service": "web", "Address": f"10.0.1.{number}"}
            await ask(agent, register_node, body=web | {"Service": other})
        await followed.until(lambda: followed.addresses("web") == {"10.0.1.4"}, "the last address")
        await asyncio.to_thread(_snapshot, agent.url, snapshot)
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.1"}, "the restored address")
        await ask(agent, register_node, body=web | {"Service": {"Service": "web", "Address": "10.0.2.2"}})
        await followed.until(lambda: followed.addresses("web") == {"10.0.2.2"}, "changes go on", timeout=5)


def _snapshot(url: str, content: bytes | None = None) -> bytes:
    """Take a snapshot of a server, or restore one."""
    import urllib.request

    method = "GET" if content is None else "PUT"
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/v1/snapshot", content, method=method)
    ) as reply:
        return bytes(reply.read())


async def test_an_agent_that_hangs_is_noticed_and_caught_up_with(consul_agent: ConsulAgent) -> None:
    await register(consul_agent, "web", Address="10.0.0.1")
    async with following(consul_agent) as followed:
        await followed.state("live")
        consul_agent.freeze()
        status = await followed.state("stale", timeout=15)
        assert status.last_error == f"{consul_agent.url} does not answer"
        assert followed.addresses("web") == {"10.0.0.1"}
        consul_agent.thaw()
        await register(consul_agent, "web", Address="10.0.0.2")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.2"}, "what changed after")
        await followed.state("live")


async def test_no_agent_is_a_status_until_there_is_one(consul_agents: Callable[..., ConsulAgent]) -> None:
    agent = consul_agents()
    async with following(agent) as followed:
        await followed.until(lambda: followed.status().last_error, "why it is not there")
        assert followed.status().last_error == f"{agent.url} cannot be reached: Connection refused"
        assert followed.registry.syncing == {"consul"}
        await asyncio.to_thread(agent.start)
        await followed.state("live")


@pytest.mark.parametrize("consistency", ["default", "consistent"])
async def test_reads_by_the_leader_or_by_a_quorum(consul_agent: ConsulAgent, consistency: str) -> None:
    async with following(consul_agent, consistency=consistency) as followed:
        await followed.state("live")
        await register(consul_agent, "web", Address="10.0.0.1")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.1"}, "web is there")


async def test_a_namespace_is_ignored_by_an_agent_that_has_none(
    consul_agent: ConsulAgent, caplog: pytest.LogCaptureFixture
) -> None:
    await register(consul_agent, "web", Address="10.0.0.1")
    async with following(consul_agent, namespace="team") as followed:
        await followed.state("live")
        assert followed.addresses("web") == {"10.0.0.1"}
    assert "the agent has no namespaces: namespace team is ignored" in caplog.text


async def test_more_services_than_connections(consul_agents: Callable[..., ConsulAgent]) -> None:
    """An agent that lets one address have 50 connections: five services are watched, the rest polled."""
    agent = consul_agents("dev", {"limits": {"http_max_conns_per_client": 50}})
    await asyncio.to_thread(agent.start)
    for number in range(20):
        check = "passing" if number % 2 else None
        await register(agent, f"s{number}", Address=f"10.0.0.{number}", Port=80, check=check)
    async with following(agent) as followed:
        status = await followed.state("live")
        assert (status.detail["watched"], status.detail["polled"]) == (5, 16)
        for number in range(20):
            assert followed.addresses(f"s{number}") == {f"10.0.0.{number}"}

        async def each(numbers: Iterable[int], like: Callable[[Instance], bool], what: str) -> None:
            for number in numbers:
                name = f"s{number}"
                await followed.until(partial(_all_like, followed, name, like), f"{name} {what}")

        for number in (1, 3, 17, 19):
            await ask(agent, f"/v1/agent/check/fail/check-s{number}")
        await each((1, 3, 17, 19), lambda i: i.health is Health.UNHEALTHY, "is critical")
        for number in (0, 2, 16, 18):  # no list shows this: everything is read
            await register(agent, f"s{number}", Address=f"10.0.0.{number}", Port=81)
        await each((0, 2, 16, 18), lambda i: i.ports[0].port == 81, "has port 81")
        await register(agent, "s4", Address="10.0.0.4", Port=80, Tags=["new"])
        await each((4,), lambda i: i.tags == ("new",), "has a tag")
        await ask(agent, "/v1/agent/maintenance?enable=true")
        await each(range(20), lambda i: i.state is State.PAUSED, "is under maintenance with its node")
        await ask(agent, "/v1/agent/maintenance?enable=false")
        await register(agent, "late", Address="10.1.1.1")
        await followed.until(lambda: followed.addresses("late") == {"10.1.1.1"}, "a new service")
        for number in range(20):
            await deregister(agent, f"s{number}")
        await deregister(agent, "late")
        await followed.until(
            lambda: {i.service for i in followed.registry.instances()} == {"consul"}, "all are gone"
        )
        assert followed.status().detail["outages"] == 0, "the agent's limit was never reached"


async def test_another_start_finds_connections_left(consul_agents: Callable[..., ConsulAgent]) -> None:
    """The agent keeps the connection of a query that nobody waits for any more, until its wait is over."""
    agent = consul_agents("dev", {"limits": {"http_max_conns_per_client": 80}})
    await asyncio.to_thread(agent.start)
    for number in range(40):
        await register(agent, f"s{number}", Address=f"10.0.0.{number}")
    for _ in range(2):
        async with following(agent) as followed:
            status = await followed.state("live")
            assert (status.detail["watched"], status.detail["polled"]) == (20, 21)
            await register(agent, "s1", Address="10.1.0.1")
            await followed.until(lambda: followed.addresses("s1") == {"10.1.0.1"}, "a change")
            await register(agent, "s1", Address="10.0.0.1")
            await followed.until(lambda: followed.addresses("s1") == {"10.0.0.1"}, "and another")
            assert followed.status().detail["outages"] == 0


def _all_like(followed: Followed, service: str, like: Callable[[Instance], bool]) -> bool:
    found = followed.instances(service)
    return bool(found) and all(map(like, found))


def _leads_another(cluster: ConsulCluster, former: ConsulAgent) -> bool:
    try:
        return cluster.leader() is not former
    except LookupError:
        return False


async def test_a_leader_that_dies_takes_nothing_with_it(consul_cluster: Callable[[], ConsulCluster]) -> None:
    cluster = await asyncio.to_thread(consul_cluster)
    client = cluster.client
    await register(client, "web", Address="10.0.0.1")
    async with following(client) as followed:
        await followed.state("live")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.1"}, "web is there")
        # The dead server's own instance of "consul" may go: a server that leads before it has heard of its
        # peers reaps those that are dead ("deregistering member: reason=reaped" in its log).
        lost: list[object] = []
        followed.registry.subscribe(
            lambda change: lost.extend(i for i in change.removed if i.service == "web")
        )
        leader = await asyncio.to_thread(cluster.leader)
        await asyncio.to_thread(leader.kill)
        # the next leader may be there before anything was missed: that it went stale is no must here
        await asyncio.to_thread(until, partial(_leads_another, cluster, leader), timeout=60)
        assert followed.addresses("web") == {"10.0.0.1"}
        await followed.state("live", timeout=60)
        await register(client, "web", Address="10.0.0.2")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.2"}, "the change after")
        assert not lost
        servers = [agent for agent in cluster.servers if agent is not leader]
        await asyncio.to_thread(servers[0].kill)
        await followed.state("stale", timeout=30)
        assert followed.addresses("web") == {"10.0.0.2"}, "without a leader the last known stays"
        await asyncio.to_thread(servers[0].start)
        await followed.state("live", timeout=60)
        assert not lost


async def test_datacenters_are_followed_apart(consul_agents: Callable[..., ConsulAgent]) -> None:
    first = consul_agents("a1")
    second = consul_agents("b1", {"datacenter": "dc2"})
    wan = first.config["ports"]["serf_wan"]
    second.config["retry_join_wan"] = [f"127.0.0.1:{wan}"]
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(second.start)
    await register(first, "web", Address="10.1.0.1")
    await register(second, "web", Address="10.2.0.1")
    async with following(first, datacenters=("", "dc2", "dc9")) as followed:
        await followed.state("live")
        await followed.until(
            lambda: "No path to datacenter" in str(followed.status("consul/dc9").last_error), "dc9 is nowhere"
        )
        assert followed.status("consul/dc9").state == "syncing"
        await followed.state("live", "consul/dc2", timeout=60)
        assert {(i.scope, str(i.addresses[0].ip)) for i in followed.instances("web")} == {
            ("dc1", "10.1.0.1"),
            ("dc2", "10.2.0.1"),
        }
        await followed.until(lambda: followed.catalog.datacenters == {"dc1", "dc2"}, "both are known")
        await asyncio.to_thread(second.kill)
        await followed.state("stale", "consul/dc2")
        assert followed.status().state == "live"
        assert len(followed.instances("web")) == 2
        await register(first, "web", Address="10.1.0.2")
        await followed.until(lambda: "10.1.0.2" in followed.addresses("web"), "the other one goes on")
