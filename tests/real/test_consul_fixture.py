"""The Consul agents that tests get are real: they register, answer DNS, and elect a new leader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.dig import dig
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.consul import ConsulAgent, ConsulCluster


def test_dev_agent_registers_and_answers(consul_agent: ConsulAgent) -> None:
    service = {"Name": "web", "Address": "10.9.8.7", "Port": 80}
    assert consul_agent.api("/v1/agent/service/register", "PUT", service).status == 200
    reply = until(
        lambda: (found := dig("127.0.0.1", consul_agent.dns_port, "web.service.consul")).answer and found,
        message="the agent's DNS knows web",
    )
    assert reply
    assert reply.addresses == {"10.9.8.7"}
    assert "aa" in reply.flags

    consul_agent.stop()
    consul_agent.start()
    assert list(consul_agent.api("/v1/catalog/services").json) == ["consul"], "a dev agent starts empty"


def test_cluster_elects_a_new_leader(consul_cluster: Callable[[], ConsulCluster]) -> None:
    cluster = consul_cluster()
    first = cluster.leader()
    first.kill()

    def moved() -> bool:
        return (
            cluster.client.api("/v1/kv/a", "PUT", 1).text.strip() == "true" and cluster.leader() is not first
        )

    until(moved, timeout=60, message="the cluster takes writes under another leader")
