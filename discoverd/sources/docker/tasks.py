"""Swarm tasks as a manager tells them: those on other nodes are known as nothing else. Pure.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Task
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from discoverd.model import Health
from discoverd.sources.docker.parse import Container, parse_container
from discoverd.sources.docker.services import SWARM, as_task, endpoint, published
from discoverd.sources.docker.shape import objects, part, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import IPAddress
    from discoverd.sources.docker.networks import NetworkMap
    from discoverd.sources.docker.services import Service
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json

#: The states of a task whose container may answer; one with a HEALTHCHECK is "starting" until that is passed.
_HEALTH = {"running": Health.HEALTHY, "starting": Health.STARTING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of the swarm. ``address`` is what the others reach it at."""

    down: bool = False
    address: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task that is to run and does."""

    id: str
    service: str
    node: str
    #: Its number; 0 where the service runs once on every node.
    slot: int
    container: str
    health: Health
    started: str
    #: Network id -> (its name, addresses with prefix length).
    networks: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    #: ``8080/tcp`` -> the port on its own node that leads to it.
    ports: Mapping[str, int] = field(default_factory=dict)

    def name(self, service: Service) -> str:
        """What its container is called."""
        return f"{service.name}.{self.slot or self.node}.{self.id}"


def parse_nodes(docs: Iterable[Json]) -> dict[str, Node]:
    """Read the answer to ``GET /nodes``, by id."""
    nodes = {}
    for doc in docs:
        status = part(doc, "Status")
        try:
            address = ipaddress.ip_address(text(status, "Addr"))
        except ValueError:
            address = None
        nodes[text(doc, "ID")] = Node(
            down=text(status, "State") == "down",
            address=None if address is None or address.is_unspecified else address,
        )
    return nodes


def parse_tasks(docs: Iterable[Json], nodes: Mapping[str, Node]) -> tuple[Task, ...]:
    """Read the answer to ``GET /tasks``: those that run, are to run on, and whose node is not down."""
    found: dict[str, Task] = {}
    for doc in docs:
        status = part(doc, "Status")
        health = _HEALTH.get(text(status, "State"))
        node = text(doc, "NodeID")
        if health is None or text(doc, "DesiredState") != "running" or nodes.get(node, Node()).down:
            continue
        slot = doc.get("Slot")
        task = Task(
            id=text(doc, "ID"),
            service=text(doc, "ServiceID"),
            node=node,
            slot=slot if isinstance(slot, int) else 0,
            container=text(part(status, "ContainerStatus"), "ContainerID"),
            health=health,
            started=text(status, "Timestamp"),
            networks={
                text(part(a, "Network"), "ID"): (
                    text(part(a, "Network", "Spec"), "Name"),
                    tuple(texts(a, "Addresses")),
                )
                for a in objects(doc, "NetworksAttachments")
            },
            ports=dict(published(objects(part(status, "PortStatus"), "Ports"), "host")),
        )
        if task.id and task.container:
            found[task.id] = task
    return tuple(found.values())


def parse_remote(
    task: Task, service: Service, settings: DockerSettings, networks: NetworkMap, nodes: Mapping[str, Node]
) -> Container:
    """A task on another node, read as its container would be."""
    name = task.name(service)
    labels = {
        **service.labels,
        SWARM + "service.name": service.name,
        SWARM + "task.name": name,
    }
    doc = {
        "Id": task.container,
        "Name": name,
        "State": {"Running": True, "StartedAt": task.started, "Health": {"Status": str(task.health)}},
        "Config": {"Labels": labels, "Hostname": service.hostname},
        "NetworkSettings": {
            "Networks": {
                called or network: endpoint(name, network, given, service.aliases.get(network, ()))
                for network, (called, given) in task.networks.items()
            },
            "Ports": {key: [{"HostPort": str(outer)}] for key, outer in task.ports.items()},
        },
    }
    there = nodes.get(task.node, Node()).address
    if settings.host_address is not None and there is not None:
        # ports that are published on one node only are reached there
        settings = replace(settings, host_address=there)
    return as_task(parse_container(doc, settings, networks), service)
