"""From this host's instances to what the agent is to have, and from what it has to that. Pure.

Every registration has two TTL checks. ``alive`` says that somebody still looks after it: it
passes as long as discoverd says so, and the agent removes the service a minute after it was
last said in time. ``health`` is the instance's own, and never removes anything.
API: https://developer.hashicorp.com/consul/api-docs/agent/service
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from discoverd.model import Health, State
from discoverd.sources.consul.instances import EXPORTER, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from discoverd.catalog import Pairs
    from discoverd.model import Instance, Port

    Json = Mapping[str, Any]

#: What EXPORTER's neighbour says of all that any discoverd registers.
DISCOVERD = "discoverd"
#: Seconds without a word from discoverd until its registrations count as dead, and between two words.
TTL, HEARTBEAT = 15, 5.0
#: How long they then stay; the least that Consul takes.
REMOVED_AFTER = "1m"
#: The health check is told when it changes, and must not run out in between.
HEALTH_TTL = "87600h"
ALIVE_NOTE = "discoverd looks after it"

#: What Consul takes as metadata: keys, their length, that of values, and how many.
_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
META_VALUE_MOST, META_MOST = 512, 64
MAX_WEIGHT = 65535


@dataclass(frozen=True, slots=True)
class Owner:
    """Who registers: a name that no other exporter through the same agent has."""

    name: str
    #: Whether containers are registered at their own addresses, and not at published ports of the host.
    containers: bool = False

    def owns(self, service: Json) -> bool:
        """Whether this exporter has registered a service, now or in an earlier life."""
        meta = service.get("Meta") or {}
        return meta.get(SOURCE) == DISCOVERD and meta.get(EXPORTER) == self.name


@dataclass(frozen=True, slots=True)
class Registration:
    """One service instance as the agent is to have it. An empty address is that of the agent's node."""

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Pairs
    weight: int
    #: What the health check says: ``passing`` or ``critical``, and why.
    status: str
    note: str

    @property
    def alive_check(self) -> str:
        return f"{self.id}:alive"

    @property
    def health_check(self) -> str:
        return f"{self.id}:health"

    def body(self) -> dict[str, Any]:
        """For ``PUT /v1/agent/service/register``."""
        return {
            "ID": self.id,
            "Name": self.name,
            "Address": self.address,
            "Port": self.port,
            "Tags": list(self.tags),
            "Meta": dict(self.meta),
            "Weights": {"Passing": self.weight, "Warning": self.weight},
            "Checks": [
                {
                    "CheckID": self.alive_check,
                    "Name": "discoverd is alive",
                    "TTL": f"{TTL}s",
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": REMOVED_AFTER,
                },
                {
                    "CheckID": self.health_check,
                    "Name": "its own health",
                    "TTL": HEALTH_TTL,
                    "Status": self.status,
                },
            ],
        }

    def is_held(self, service: Json) -> bool:
        """Whether the agent has it like this, checks left out."""
        weights = service.get("Weights") or {}
        return (
            service.get("Service") == self.name
            and (service.get("Address") or "") == self.address
            and (service.get("Port") or 0) == self.port
            and sorted(service.get("Tags") or ()) == sorted(self.tags)
            and (service.get("Meta") or {}) == dict(self.meta)
            and weights.get("Passing") == self.weight
        )


def registrations(instances: Iterable[Instance], owner: Owner) -> dict[str, Registration]:
    """What the agent is to have, by id: a registration for each port of each instance that runs."""
    made: dict[str, Registration] = {}
    for instance in instances:
        if instance.state is not State.STOPPED and instance.in_service:
            for registration in _of_instance(instance, owner):
                made[registration.id] = registration
    return made


def _of_instance(instance: Instance, owner: Owner) -> Iterator[Registration]:
    for address, port, number in _places(instance, owner):
        protocol = "-udp" if port is not None and port.protocol == "udp" else ""
        status, note = health_of(instance)
        tags = (*instance.tags, *((port.name,) if port and port.name else ()))
        yield Registration(
            id=f"{DISCOVERD}:{owner.name}:{instance.unique}:{number}{protocol}",
            name=instance.service,
            address=address,
            port=number,
            tags=tuple(dict.fromkeys(tags)),
            meta=_meta(instance, owner),
            weight=min(max(instance.weight, 1), MAX_WEIGHT),
            status=status,
            note=note,
        )


def _places(instance: Instance, owner: Owner) -> Iterator[tuple[str, Port | None, int]]:
    """Address, port and number to register: none that others cannot reach."""
    container = bool(instance.memberships) or instance.on_host
    if instance.on_host or (container and not owner.containers):
        address = str(instance.host_address) if instance.host_address is not None else ""
        for port in instance.ports:
            if port.published is not None and port.published_beyond_host:
                yield address, port, port.published
        return
    reachable = [a.ip for a in instance.addresses if not a.ip.is_loopback]
    if not reachable:
        return
    if not instance.ports:
        yield str(reachable[0]), None, 0
    for port in instance.ports:
        yield str(reachable[0]), port, port.port


def health_of(instance: Instance) -> tuple[str, str]:
    """What the health check says. One that starts is not passing yet; one that drains no longer."""
    if instance.state is not State.RUNNING:
        return "critical", f"it is {instance.state}"
    if instance.health is not Health.HEALTHY:
        return "critical", f"it is {instance.health}"
    return "passing", "it is healthy"


def _meta(instance: Instance, owner: Owner) -> Pairs:
    """The instance's own metadata as far as Consul takes it, then whose registration it is."""
    ours = {SOURCE: DISCOVERD, EXPORTER: owner.name, "discoverd-id": instance.unique}
    if instance.scope:
        ours["discoverd-scope"] = instance.scope
    fit = [
        (key, value)
        for key, value in instance.meta
        if _META_KEY.fullmatch(key)
        and not key.startswith("consul-")
        and key not in ours
        and len(value.encode()) <= META_VALUE_MOST
    ]
    return (*fit[: META_MOST - len(ours)], *ours.items())


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: registrations to make or make again, health checks to tell, ids to take back."""

    register: tuple[Registration, ...]
    tell: tuple[Registration, ...]
    deregister: tuple[str, ...]


def reconcile(
    wanted: Mapping[str, Registration], services: Mapping[str, Json], checks: Mapping[str, Json], owner: Owner
) -> Plan:
    """From what the agent has (``/v1/agent/services`` and ``/v1/agent/checks``) to what it is to have.

    What others have registered is left alone.
    """
    register = [r for r in wanted.values() if not _is_whole(r, services, checks)]
    made = {r.id for r in register}
    tell = [
        r
        for r in wanted.values()
        if r.id not in made and (checks[r.health_check].get("Status") or "") != r.status
    ]
    extra = [ident for ident, held in services.items() if owner.owns(held) and ident not in wanted]
    return Plan(tuple(register), tuple(tell), tuple(extra))


def _is_whole(wanted: Registration, services: Mapping[str, Json], checks: Mapping[str, Json]) -> bool:
    held = services.get(wanted.id)
    return (
        held is not None
        and wanted.is_held(held)
        and wanted.alive_check in checks
        and wanted.health_check in checks
    )


def step(wanted: Mapping[str, Registration], known: Mapping[str, Registration]) -> Plan:
    """From what was registered last to what is wanted now, without asking the agent."""
    changed = [r for r in wanted.values() if known.get(r.id) != r]
    tell = [r for r in changed if r.id in known and _same_but_health(r, known[r.id])]
    told = {r.id for r in tell}
    register = tuple(r for r in changed if r.id not in told)
    return Plan(register, tuple(tell), tuple(known.keys() - wanted.keys()))


def _same_but_health(one: Registration, other: Registration) -> bool:
    return replace(one, status="", note="") == replace(other, status="", note="")
