"""Consul's catalog in Consul's own terms: what names under ``.consul`` are answered from.

The Consul source writes it, the resolver of ``.consul`` names reads it, both on the event loop.
``<service>.docker`` names don't come from here: they are the registry's, as every source's are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Pairs = tuple[tuple[str, str], ...]


class Status(StrEnum):
    """The worst of an endpoint's checks, its node's included; no checks count as passing."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Node:
    """A member of a datacenter. ``address`` is an IP address or a host name, as it was registered."""

    name: str
    address: str
    datacenter: str
    meta: Pairs = ()
    #: (tag, address), such as ("wan", "198.51.100.7").
    tagged: Pairs = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service instance. ``address`` is empty where the node's counts; it may be a host name."""

    node: Node
    id: str
    service: str
    address: str = ""
    port: int = 0
    tags: tuple[str, ...] = ()
    meta: Pairs = ()
    tagged: Pairs = ()
    status: Status = Status.PASSING
    #: Shares of the load while passing, and while warning (RFC 2782 weights).
    weights: tuple[int, int] = (1, 1)

    @property
    def weight(self) -> int:
        return {Status.PASSING: self.weights[0], Status.WARNING: self.weights[1]}.get(self.status, 0)

    def served(self, *, only_passing: bool) -> bool:
        """Whether Consul's own DNS serves it: its dns_config's ``only_passing`` leaves warnings out."""
        return self.status is Status.PASSING or (self.status is Status.WARNING and not only_passing)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a name asks for, in lower case. ``kind`` is service, connect, ingress, node, query or addr."""

    kind: str
    name: str
    datacenter: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the agent itself said to a lookup: endpoints or a node, and for how many seconds that holds.

    A prepared query may have been answered by another datacenter than it was asked for.
    """

    datacenter: str
    endpoints: tuple[Endpoint, ...] = ()
    node: Node | None = None
    ttl: int = 0


@dataclass(slots=True)
class Datacenter:
    """What is known of one datacenter that is followed. Keys are names in lower case."""

    synced: bool = False
    #: What it was in an earlier process, until it is synced.
    restored: bool = False
    services: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    #: The first node of each address, for PTR.
    addresses: dict[str, Node] = field(default_factory=dict)


def service_key(datacenter: str, service: str) -> str:
    """What answers about a service of a datacenter rest on."""
    return f"{service}.service.{datacenter}.consul"


def node_key(datacenter: str, node: str) -> str:
    """What answers about a node rest on."""
    return f"{node}.node.{datacenter}.consul"


class Catalog:
    """The followed datacenters, and the names of all that the agent knows of."""

    def __init__(self) -> None:
        self._home = ""
        self._datacenters: frozenset[str] = frozenset()
        self._followed: dict[str, Datacenter] = {}
        self._subscribers: list[Callable[[Iterable[str]], None]] = []
        self._watchers: list[Callable[[str, str], None]] = []

    def subscribe(self, subscriber: Callable[[Iterable[str]], None]) -> None:
        """Be told the keys that a change makes wrong."""
        self._subscribers.append(subscriber)

    def watch(self, watcher: Callable[[str, str], None]) -> None:
        """Be told what changed: a datacenter and a service's key; only the datacenter for its nodes;
        neither where it is about which datacenters there are and which of them are in step.
        """
        self._watchers.append(watcher)

    @property
    def home(self) -> str:
        """The agent's own datacenter in lower case, empty until the agent has said it."""
        return self._home

    @home.setter
    def home(self, name: str) -> None:
        self._home = name
        self._say()

    @property
    def datacenters(self) -> frozenset[str]:
        """All datacenters that the agent knows of, followed or not."""
        return self._datacenters

    @datacenters.setter
    def datacenters(self, names: frozenset[str]) -> None:
        self._datacenters = names
        self._say()

    @property
    def followed(self) -> dict[str, Datacenter]:
        """The followed datacenters by name."""
        return self._followed

    def at(self, datacenter: str) -> Datacenter | None:
        """A followed datacenter; None for any other."""
        return self._followed.get(datacenter)

    def follow(self, datacenter: str) -> Datacenter:
        held = self._followed.setdefault(datacenter, Datacenter())
        self._say()
        return held

    def in_step(self, datacenter: str) -> None:
        """All of a followed datacenter was read once."""
        held = self._followed[datacenter]
        held.synced, held.restored = True, False
        self._say()

    def forget(self) -> None:
        """Begin anew: another agent is followed, or none."""
        followed, self._followed = self._followed, {}
        for name, held in followed.items():
            self._say(name)
            for service in held.services:
                self._say(name, service)
        self.home, self.datacenters = "", frozenset()

    def restore(
        self,
        datacenter: str,
        services: Mapping[str, tuple[Endpoint, ...]],
        nodes: Mapping[str, Node],
        datacenters: frozenset[str],
        *,
        home: bool,
    ) -> None:
        """Begin with what was known of a datacenter in an earlier process."""
        before = self.follow(datacenter).services
        held = self._followed[datacenter] = Datacenter(restored=True, services=dict(services))
        for node in nodes.values():
            held.addresses.setdefault(node.address, node)
        held.nodes = dict(nodes)
        self._say(datacenter)
        for service in before.keys() | services.keys():
            self._say(datacenter, service)
        self.datacenters |= datacenters
        if home:
            self.home = datacenter

    def drop(self, datacenter: str) -> None:
        """Forget what was restored of a datacenter."""
        held = self._followed.get(datacenter)
        if held is None or not held.restored:
            return
        services, nodes = list(held.services), list(held.nodes)
        held.restored, held.services, held.nodes, held.addresses = False, {}, {}, {}
        self._say()
        self._say(datacenter)
        for service in services:
            self._say(datacenter, service)
        self._tell([service_key(datacenter, name) for name in services])
        self._tell([node_key(datacenter, name) for name in nodes])

    def set_service(self, datacenter: str, service: str, endpoints: tuple[Endpoint, ...]) -> None:
        """Replace a service, named in lower case; without endpoints it is gone."""
        held = self._followed[datacenter]
        if endpoints:
            held.services[service] = endpoints
        else:
            held.services.pop(service, None)
        self._say(datacenter, service)
        self._tell((service_key(datacenter, service),))

    def set_nodes(self, datacenter: str, nodes: Mapping[str, Node]) -> None:
        """Replace all nodes of a datacenter, named in lower case."""
        held = self._followed[datacenter]
        touched = {
            name for name in held.nodes.keys() | nodes.keys() if held.nodes.get(name) != nodes.get(name)
        }
        held.nodes = dict(nodes)
        held.addresses = {}
        for node in nodes.values():
            held.addresses.setdefault(node.address, node)
        if touched:
            self._say(datacenter)
            self._tell([node_key(datacenter, name) for name in touched])

    def _say(self, datacenter: str = "", service: str = "") -> None:
        for watcher in self._watchers:
            watcher(datacenter, service)

    def _tell(self, keys: Iterable[str]) -> None:
        for subscriber in self._subscribers:
            subscriber(keys)
