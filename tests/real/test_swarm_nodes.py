"""A real swarm of two engines: tasks on the other node, of which the manager has no events, and a worker."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.real.debian import need
from tests.real.session import forwarding
from tests.real.swarm import PATIENCE, swarm_of
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.engine import HostedEngine
    from tests.real.netns import Namespace
    from tests.real.server import Server
    from tests.real.session import Session

STACK = """
services:
  web: {image: IMAGE, deploy: {replicas: 4, endpoint_mode: dnsrr}}
  api: {image: IMAGE, deploy: {replicas: 2}}
"""
NETWORK = "shop_default"


@contextmanager
def crossing(one: Namespace, other: Namespace) -> Generator[None]:
    """Let two hosts reach each other, whether an engine on this machine has made it forward or not."""
    iptables = need("iptables", "iptables")
    rules = [("FORWARD", "-i", a.name, "-o", b.name, "-j", "ACCEPT") for a, b in ((one, other), (other, one))]
    for rule in rules:
        subprocess.run([iptables, "-w", "-I", *rule], check=True)
    try:
        with forwarding():
            yield
    finally:
        for rule in rules:
            subprocess.run([iptables, "-w", "-D", *rule], check=True)


def test_two_nodes(
    session: Session,
    engine_host: Callable[..., HostedEngine],
    discoverd: Callable[..., Server],
    tmp_path: Path,
) -> None:
    manager, worker = engine_host("manager", 4), engine_host("worker", 5)
    here, there = manager.daemon.namespace, worker.daemon.namespace
    assert here
    assert there
    pool = f"10.{session.slot}.112.0/20"
    with crossing(here, there), swarm_of(manager, here.address, pool, tmp_path) as swarm:
        swarm.load(worker)
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        worker.docker("swarm", "join", "--token", token, f"{here.address}:2377")
        (node,) = worker.docker("info", "--format", "{{.Swarm.NodeID}}").split()
        of_manager, of_worker = discoverd(docker=manager), discoverd(docker=worker)
        for server in (of_manager, of_worker):
            server.wait_source("live")
        swarm.deploy("shop", STACK)

        def truth() -> set[str]:
            return swarm.addresses("shop_web", NETWORK)

        def follows(count: int = 4) -> None:
            until(
                lambda: len(truth()) == count and of_manager.dig("web.shop.docker").addresses == truth(),
                timeout=PATIENCE,
                message=lambda: f"{truth()}: {of_manager.dig('web.shop.docker').text}{of_manager.log_text}",
            )

        follows()
        on_worker = addresses(worker, *swarm.containers("shop_web", worker))
        assert on_worker
        assert on_worker < truth()  # so there are some on either
        known = of_manager.api("/v1/services/web").json
        assert isinstance(known, dict)
        held = [i for service in known["services"] for i in service["instances"] if i["health"] == "healthy"]
        assert len(held) == 4, "each once, by its container or as a task"
        virtual = {swarm.virtual_ip("shop_api", NETWORK)}
        of_manager.wait_answer("api.docker", virtual, timeout=PATIENCE)
        of_manager.wait_answer("tasks.api.docker", swarm.addresses("shop_api", NETWORK), timeout=PATIENCE)
        # a worker knows its own containers, whose services it does not know
        of_worker.wait_answer("web.shop.docker", on_worker)
        of_worker.wait_answer("tasks.web.docker", on_worker)

        victim = swarm.containers("shop_web", worker)[0]
        worker.docker("kill", victim)
        until(lambda: victim not in swarm.containers("shop_web", worker), message="it is dead")
        follows()
        manager.docker("node", "update", "--availability", "drain", node)
        until(lambda: not swarm.containers("", worker), timeout=PATIENCE, message="the worker is drained")
        follows()
        of_worker.wait_answer("web.shop.docker", set())
        manager.docker("service", "scale", "--detach", "shop_web=1")
        follows(1)

        for server in (of_manager, of_worker):
            assert not [
                line for line in server.log_text.splitlines() if " warning " in line or " error " in line
            ]
        # the worker was asked for services once, and not again
        asked = worker.daemon.log.read_text(errors="replace").count("/services returned error")
        assert asked <= 1
        worker.docker("swarm", "leave", "--force")


def addresses(engine: HostedEngine, *containers: str) -> set[str]:
    return {c["NetworkSettings"]["Networks"][NETWORK]["IPAddress"] for c in engine.inspect(*containers)}
