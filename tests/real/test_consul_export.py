"""What stands on this host is registered with a real agent, and nothing of it outlives its truth."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from discoverd.model import Address, Health, Instance, Membership, Port, State
from discoverd.sources.consul import ConsulSettings
from discoverd.sources.consul.export import Owner
from discoverd.sources.consul.exporter import Exporter
from discoverd.sources.consul.link import Link
from discoverd.supervise import spawn
from tests.real.following import ask, following, register
from tests.real.test_consul_access import ACL, HEADERS, start_with_acl
from tests.wait import until as wait
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    import pytest

    from tests.real.consul import ConsulAgent
    from tests.real.server import Server

WEB = Instance(
    id="0123456789ab" * 5,
    service="web",
    source="docker/local",
    scope="shop",
    addresses=(Address(ip_address("172.18.0.2"), "shop_default", "local/n1"),),
    ports=(Port(80, published=8080, name="http"), Port(9100), Port(53, "udp", published=53)),
    tags=("v1",),
    meta=(("version", "1.2"), ("not taken", "x"), ("long", "x" * 600)),
    weight=7,
    unique="0123456789ab",
    memberships=(Membership("shop_default", "local/n1"),),
)
PROCESS = Instance(
    id="job", service="job", source="registered", addresses=(Address(ip_address("10.0.0.9")),), unique="job-1"
)


class Host:
    """What stands on this host, as the test says."""

    def __init__(self, *instances: Instance) -> None:
        self._instances = {i.id: i for i in instances}
        self._told: list[Callable[[], None]] = []
        self.is_settled = True

    def instances(self) -> Iterable[Instance]:
        return list(self._instances.values())

    def settled(self) -> bool:
        return self.is_settled

    def subscribe(self, told: Callable[[], None]) -> Callable[[], None]:
        self._told.append(told)
        return lambda: self._told.remove(told)

    def set(self, *instances: Instance) -> None:
        self._instances = {i.id: i for i in instances}
        self.tell()

    def tell(self) -> None:
        for told in self._told:
            told()


@asynccontextmanager
async def exporting(
    agent: ConsulAgent, host: Host, *, containers: bool = False, leave: bool = True, token: str = ""
) -> AsyncIterator[dict[str, int | str]]:
    """An exporter called ``me``, until the end of the block; its counts."""
    link = Link(ConsulSettings(url=agent.url, token=token))
    detail: dict[str, int | str] = {}
    exporter = Exporter(link.control, host, Owner("me", containers=containers), detail, leave=leave)
    try:
        async with asyncio.TaskGroup() as group:
            task = spawn(group, "export", exporter.run())
            try:
                yield detail
            finally:
                task.cancel()
    finally:
        await link.close()


def services(agent: ConsulAgent) -> dict[str, Any]:
    """What the agent has, without the test's own."""
    found: dict[str, Any] = agent.api("/v1/agent/services").json
    return {ident: service for ident, service in found.items() if ident.startswith("discoverd:")}


def statuses(agent: ConsulAgent) -> dict[str, str]:
    """The status of each check, by id."""
    return {ident: check["Status"] for ident, check in agent.api("/v1/agent/checks").json.items()}


async def until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    return await until_async(condition, timeout=seconds, message=what)


async def test_published_ports_are_registered_at_the_hosts_address(consul_agent: ConsulAgent) -> None:
    host = Host(replace(WEB, host_address=ip_address("198.51.100.7")), PROCESS)
    async with exporting(consul_agent, host):
        await until(lambda: len(services(consul_agent)) == 3, "two ports and a process are registered")
        found = services(consul_agent)
        web = found["discoverd:me:0123456789ab:8080"]
        assert (web["Service"], web["Address"], web["Port"]) == ("web", "198.51.100.7", 8080)
        assert web["Tags"] == ["v1", "http"]
        assert web["Weights"] == {"Passing": 7, "Warning": 7}
        assert web["Meta"] == {
            "version": "1.2",
            "external-source": "discoverd",
            "discoverd-instance": "me",
            "discoverd-id": "0123456789ab",
            "discoverd-scope": "shop",
        }
        udp, job = found["discoverd:me:0123456789ab:53-udp"], found["discoverd:me:job-1:0"]
        assert (udp["Port"], job["Service"], job["Address"], job["Port"]) == (53, "job", "10.0.0.9", 0)
        await until(
            lambda: set(statuses(consul_agent).values()) == {"passing"} and len(statuses(consul_agent)) == 6,
            "all checks pass",
        )
        host.set(WEB)
        await until(
            lambda: services(consul_agent)["discoverd:me:0123456789ab:8080"]["Address"] == "",
            "without an address of the host's it is at its node's",
        )
    assert services(consul_agent) == {}, "all is taken back at the end"


async def test_containers_are_registered_at_their_own_addresses_where_that_is_wanted(
    consul_agent: ConsulAgent,
) -> None:
    on_host = replace(WEB, unique="cccccccccccc", addresses=(), memberships=(), on_host=True, id="c")
    async with exporting(consul_agent, Host(WEB, on_host), containers=True):
        await until(lambda: len(services(consul_agent)) == 5, "all ports are registered")
        places = {ident: (s["Address"], s["Port"]) for ident, s in services(consul_agent).items()}
        assert places == {
            "discoverd:me:0123456789ab:80": ("172.18.0.2", 80),
            "discoverd:me:0123456789ab:9100": ("172.18.0.2", 9100),
            "discoverd:me:0123456789ab:53-udp": ("172.18.0.2", 53),
            "discoverd:me:cccccccccccc:8080": ("", 8080),
            "discoverd:me:cccccccccccc:53-udp": ("", 53),
        }


async def test_health_and_life_become_checks(consul_agent: ConsulAgent) -> None:
    ident, check = "discoverd:me:0123456789ab:8080", "discoverd:me:0123456789ab:8080:health"
    host = Host(WEB)
    async with exporting(consul_agent, host), following(consul_agent) as followed:
        await until(lambda: statuses(consul_agent).get(check) == "passing", "it passes")
        for changed, note in (
            (replace(WEB, health=Health.UNHEALTHY), "it is unhealthy"),
            (WEB, "it is healthy"),
            (replace(WEB, health=Health.STARTING), "it is starting"),
            (replace(WEB, state=State.DRAINING), "it is draining"),
            (replace(WEB, state=State.PAUSED), "it is paused"),
        ):
            host.set(changed)

            def says(note: str = note) -> bool:
                return bool(consul_agent.api("/v1/agent/checks").json[check]["Output"] == note)

            await until(says, note)
            wanted = "passing" if changed is WEB else "critical"
            assert statuses(consul_agent)[check] == wanted
            assert ident in services(consul_agent)
        assert statuses(consul_agent)[f"{ident}:alive"] == "passing"
        await followed.until(
            lambda: {i.health for i in followed.instances("web")} == {Health.UNHEALTHY}, "others see it"
        )
        host.set(replace(WEB, state=State.STOPPED))
        await until(lambda: not services(consul_agent), "what has stopped is not registered")
        await followed.until(lambda: not followed.instances("web"), "others see that as well")


async def test_what_was_left_behind_goes_and_what_is_others_stays(consul_agent: ConsulAgent) -> None:
    theirs = {"external-source": "discoverd", "discoverd-instance": "you"}
    await register(consul_agent, "db", ID="discoverd:you:1:1", Meta=theirs)
    await register(consul_agent, "db", ID="db")
    async with exporting(consul_agent, Host(WEB), leave=False):
        await until(lambda: len(services(consul_agent)) == 3, "it is registered")
    left = services(consul_agent)
    assert len(left) == 3

    moved = replace(WEB, ports=(Port(80, published=8081),))
    host = Host(moved)
    host.is_settled = False
    async with exporting(consul_agent, host):
        await asyncio.sleep(0)
        assert services(consul_agent) == left, "nothing is taken back before it is known what there is"
        host.is_settled = True
        host.tell()
        await until(
            lambda: services(consul_agent).keys() == {"discoverd:me:0123456789ab:8081", "discoverd:you:1:1"},
            "only what is true is left",
        )
    assert services(consul_agent).keys() == {"discoverd:you:1:1"}
    assert "db" in consul_agent.api("/v1/agent/services").json


async def test_an_identical_registration_is_left_alone(consul_agent: ConsulAgent) -> None:
    def modified() -> list[int]:
        return [entry["ModifyIndex"] for entry in consul_agent.api("/v1/catalog/service/web").json]

    async with exporting(consul_agent, Host(WEB), leave=False):
        await until(lambda: len(modified()) == 2, "the catalog has it")
        before = modified()
    async with exporting(consul_agent, Host(WEB), leave=False) as detail:
        await until(lambda: detail.get("exported") == 2, "it is in step again")
        assert modified() == before


async def test_an_agent_that_lost_everything_gets_it_again_within_seconds(consul_agent: ConsulAgent) -> None:
    async with exporting(consul_agent, Host(WEB)):
        await until(lambda: len(services(consul_agent)) == 2, "it is registered")
        await asyncio.to_thread(consul_agent.kill)
        await asyncio.to_thread(consul_agent.start)
        await until(
            lambda: (
                len(services(consul_agent)) == 2
                and list(statuses(consul_agent).values()).count("passing") == 4
            ),
            "it is registered again, and passes",
            seconds=10,
        )
        one = next(iter(services(consul_agent)))
        await ask(consul_agent, f"/v1/agent/service/deregister/{one}")
        await until(
            lambda: one in services(consul_agent), "what somebody took away is there again", seconds=10
        )


async def test_own_registrations_are_not_counted_twice(consul_agent: ConsulAgent) -> None:
    host = Host(WEB)
    link = Link(ConsulSettings(url=consul_agent.url))
    identity = await link.identify()
    await link.close()
    async with exporting(consul_agent, host), following(consul_agent, export=True, instance="me") as followed:
        await until(lambda: len(services(consul_agent)) == 2, "it is registered")
        await register(consul_agent, "web", Address="10.0.0.5")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.5"}, "somebody else's is known")
        held = followed.catalog.at("dc1")
        assert held is not None
        await followed.until(lambda: len(held.services["web"]) == 3, "under .consul all are")
    assert identity.node == "dev"


async def test_what_a_token_may_not_register_keeps_nothing_else_out(
    consul_agents: Callable[..., ConsulAgent], caplog: pytest.LogCaptureFixture
) -> None:
    from tests.real.rest import request

    agent = consul_agents("dev", ACL)
    await asyncio.to_thread(start_with_acl, agent)
    rules = 'service "job" { policy = "write" } agent_prefix "" { policy = "read" }'
    policy = request("PUT", f"{agent.url}/v1/acl/policy", {"Name": "p", "Rules": rules}, HEADERS).json["ID"]
    token = request("PUT", f"{agent.url}/v1/acl/token", {"Policies": [{"ID": policy}]}, HEADERS).json

    def held() -> set[str]:
        return set(request("GET", f"{agent.url}/v1/agent/services", headers=HEADERS).json)

    async with exporting(agent, Host(WEB, PROCESS), token=token["SecretID"]) as detail:
        await until(lambda: detail.get("refused") == 2, "the agent refuses two")
        assert held() == {"discoverd:me:job-1:0"}
    assert held() == set()
    assert "discoverd:me:0123456789ab:8080 is not registered: " in caplog.text
    assert "403: Permission denied" in caplog.text


def test_a_registered_process_is_there_for_as_long_as_its_lease(
    consul_agent: ConsulAgent, discoverd: Callable[..., Server]
) -> None:
    server = discoverd("--consul", consul_agent.url, config="[consul]\nexport = true\n")
    server.wait_source("live", "consul")
    job = {"service": "job", "addresses": ["10.0.0.9"], "ports": [{"port": 90}], "tags": ["v2"]}

    def held() -> list[Any]:
        found = consul_agent.api("/v1/health/service/job?passing").json
        return [(e["Service"]["Address"], e["Service"]["Port"], e["Service"]["Tags"]) for e in found]

    assert server.api("/v1/instances/job-1", "PUT", job | {"lease": 3600}).status in (200, 201)
    wait(lambda: held() == [("10.0.0.9", 90, ["v2"])], message="it is registered, and passes")
    assert server.dig("job.docker").addresses == {"10.0.0.9"}
    assert server.dig("job.docker", "SRV").data[0].split()[2] == "90", "it is counted once"
    assert len(server.dig("job.docker", "SRV").data) == 1
    assert server.api("/v1/instances/job-1", "PUT", job | {"lease": 1}).status in (200, 201)
    wait(lambda: not held(), message="its lease has run out, and so has its registration")
    wait(lambda: not services(consul_agent), message="the agent has nothing of it")
