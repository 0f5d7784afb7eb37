"""What a Swarm manager last said, and which instances follow from it. No I/O.

A task on the manager's own node is known twice, by its container and as a task: the container counts,
of which every event is heard. Tasks elsewhere are known from the manager only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from discoverd.model import Health, State
from discoverd.sources.docker.networks import NetworkMap
from discoverd.sources.docker.services import Service, parse_virtual
from discoverd.sources.docker.tasks import Node, Task, parse_remote

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from discoverd.model import Instance
    from discoverd.sources.docker.settings import DockerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One reading of a manager."""

    services: Mapping[str, Service] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """What a report changed: objects to be published, services whose containers read differently, remarks."""

    objects: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    services: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Swarm:
    """The services of a swarm and their tasks on other nodes."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self.report = Report()
        self._networks = NetworkMap()
        self._objects: dict[str, tuple[Instance, ...]] = {}
        #: The engine's own node; "" where that is not known yet.
        self._node = ""
        self._told: dict[str, tuple[str, ...]] = {}

    @property
    def lost(self) -> bool:
        """Whether it is not known yet which node the engine is, though that may be told now."""
        return bool(self.report.tasks) and not self._node

    def service(self, service: str) -> Service | None:
        """The service with this id."""
        return self.report.services.get(service)

    def objects(self) -> dict[str, tuple[Instance, ...]]:
        return dict(self._objects)

    def heard(self, report: Report, networks: NetworkMap, here: Container[str]) -> News:
        """A new report, or the same on other networks; ``here`` are the engine's own containers."""
        if report == self.report and networks == self._networks and self._node:
            return News()
        old, self.report, self._networks = self.report, report, networks
        self._find_own_node(here)
        notes: list[str] = []
        objects = self._of_services(notes) | self._of_tasks()
        changed = {key: made for key, made in objects.items() if self._objects.get(key) != made}
        changed |= dict.fromkeys(self._objects.keys() - objects.keys(), ())
        self._objects = objects
        differ = {
            key
            for key in old.services.keys() | report.services.keys()
            if old.services.get(key) != report.services.get(key)
        }
        return News(changed, frozenset(differ), tuple(notes))

    def _find_own_node(self, here: Container[str]) -> None:
        nodes, tasks = self.report.nodes, self.report.tasks
        if len(nodes) == 1:
            (self._node,) = nodes
        elif nodes and self._node not in nodes:  # it is part of another swarm now
            self._node = ""
        self._node = next((task.node for task in tasks if task.container in here), self._node)

    def _of_services(self, notes: list[str]) -> dict[str, tuple[Instance, ...]]:
        alive: dict[str, Health] = {}
        #: What is published on the nodes that run a task only, as far as this one does.
        ports: dict[str, dict[str, int]] = {}
        for task in self.report.tasks:
            if alive.get(task.service) is not Health.HEALTHY:
                alive[task.service] = task.health
            if task.ports and task.node == self._node:
                ports.setdefault(task.service, {}).update(task.ports)
        made: dict[str, tuple[Instance, ...]] = {}
        for service in self.report.services.values():
            health = alive.get(service.id)
            read = parse_virtual(
                replace(service, ports={**service.ports, **ports.get(service.id, {})}),
                self._settings,
                self._networks,
                State.STOPPED if health is None else State.RUNNING,
                health or Health.STARTING,
            )
            notes += [
                f"service {service.name}: {n}" for n in read.notes if n not in self._told.get(service.id, ())
            ]
            self._told[service.id] = read.notes
            # without a virtual IP its tasks are all there is, and something is to be known while it has none
            if read.instances and (service.virtual or health is None):
                made[f"service/{service.id}"] = read.instances
        return made

    def _of_tasks(self) -> dict[str, tuple[Instance, ...]]:
        made: dict[str, tuple[Instance, ...]] = {}
        for task in self.report.tasks:
            service = self.report.services.get(task.service)
            if service is None or task.node == self._node:
                continue
            read = parse_remote(task, service, self._settings, self._networks, self.report.nodes)
            if read.instances:
                made[f"task/{task.id}"] = read.instances
        return made
