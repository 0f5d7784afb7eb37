"""Swarm services as a manager tells them -> what their tasks and virtual IPs are called. Pure.

A service is read as if it were a container: its inspect is made up of what the manager said, so that
labels, names, ports and networks mean the same for both.
https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Service
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from discoverd.model import Health, State
from discoverd.sources.docker.parse import Container, parse_container
from discoverd.sources.docker.shape import objects, part, text, text_map, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from discoverd.model import Instance
    from discoverd.sources.docker.networks import NetworkMap
    from discoverd.sources.docker.settings import DockerSettings
    from discoverd.sources.docker.shape import Json

#: Labels that the engine gives the containers of tasks.
SWARM = "com.docker.swarm."


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service's specification, as far as answers depend on it."""

    id: str
    #: With its stack in front: ``shop_api``.
    name: str
    #: Those of the service, and over them those of its containers.
    labels: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    #: Network id -> aliases there.
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: (network id, address with prefix length); none with the endpoint mode ``dnsrr``.
    virtual: tuple[tuple[str, str], ...] = ()
    #: ``8080/tcp`` -> the port on every node that leads to it (routing mesh).
    ports: Mapping[str, int] = field(default_factory=dict)


def parse_services(docs: Iterable[Json]) -> dict[str, Service]:
    """Read the answer to ``GET /services``, by id; what is misshapen counts as empty."""
    found = (parse_service(doc) for doc in docs)
    return {service.id: service for service in found if service.id and service.name}


def parse_service(doc: Json) -> Service:
    spec, endpoint = part(doc, "Spec"), part(doc, "Endpoint")
    template = part(spec, "TaskTemplate")
    container = part(template, "ContainerSpec")
    # where it stood before API 1.25
    networks = objects(template, "Networks") or objects(spec, "Networks")
    return Service(
        id=text(doc, "ID"),
        name=text(spec, "Name"),
        labels=text_map(part(spec, "Labels")) | text_map(part(container, "Labels")),
        hostname=hostname if "{{" not in (hostname := text(container, "Hostname")) else "",
        aliases={text(n, "Target"): tuple(texts(n, "Aliases")) for n in networks},
        virtual=tuple((text(v, "NetworkID"), text(v, "Addr")) for v in objects(endpoint, "VirtualIPs")),
        ports=dict(published(objects(endpoint, "Ports"))),
    )


def published(ports: Iterable[Json], mode: str = "ingress") -> Iterable[tuple[str, int]]:
    """``8080/tcp`` and the port it is published at, of those published in this mode."""
    for port in ports:
        inner, outer = port.get("TargetPort"), port.get("PublishedPort")
        if isinstance(inner, int) and isinstance(outer, int) and text(port, "PublishMode") == mode:
            yield f"{inner}/{text(port, 'Protocol') or 'tcp'}", outer


def service_id(doc: Json) -> str:
    """The service that a container is a task of, by its inspect; "" where it is of none."""
    return text(part(doc, "Config", "Labels"), SWARM + "service.id")


def dressed(doc: Json, service: Service) -> Json:
    """A task's inspect, with the labels and aliases that the engine gives to the service only."""
    config = dict(part(doc, "Config"))
    config["Labels"] = {**service.labels, **part(config, "Labels")}
    settings = dict(part(doc, "NetworkSettings"))
    networks: dict[str, Any] = {}
    for name, endpoint in part(settings, "Networks").items():
        aliases = service.aliases.get(text(part(endpoint), "NetworkID"), ())
        given = dict(part(endpoint))
        for key in ("Aliases", "DNSNames"):
            if have := texts(given, key):
                given[key] = [*have, *aliases]
        if aliases and not texts(given, "Aliases"):
            given["Aliases"] = list(aliases)
        networks[name] = given
    return {**doc, "Config": config, "NetworkSettings": {**settings, "Networks": networks}}


def as_task(container: Container, service: Service | None) -> Container:
    """A container as its service's task: behind a virtual IP it is not what the service's name means.

    What its service is to be told (remarks on labels) is the service's own remark.
    """
    if service is None or not service.virtual:
        made = tuple(replace(i, task=True) for i in container.instances)
    else:  # what the service is called is the virtual IP's, and so are Registrator's further services
        made = tuple(replace(i, task=True, in_service=False, extra_names=()) for i in container.instances[:1])
    return replace(container, instances=made, notes=container.notes if service is None else ())


def endpoint(name: str, network: str, addresses: Iterable[str], aliases: Iterable[str]) -> Json:
    """One network of a made-up inspect; addresses come with their prefix length."""
    plain = [address.partition("/")[0] for address in addresses]
    return {
        "NetworkID": network,
        "IPAddress": next((a for a in plain if ":" not in a), ""),
        "GlobalIPv6Address": next((a for a in plain if ":" in a), ""),
        "Aliases": [alias for alias in aliases if alias != name],
    }


def parse_virtual(
    service: Service, settings: DockerSettings, networks: NetworkMap, state: State, health: Health
) -> Container:
    """The service itself as an instance: its virtual IPs, or nothing but its names where it has none."""
    addresses: dict[str, list[str]] = {network: [] for network in service.aliases}
    for network, address in service.virtual:
        addresses.setdefault(network, []).append(address)
    labels = {**service.labels, SWARM + "service.name": service.name}
    doc = {
        "Id": service.id,
        "Name": service.name,
        "State": {"Running": state is State.RUNNING, "Health": {"Status": str(health)}},
        "Config": {"Labels": labels},
        "NetworkSettings": {
            "Networks": {
                networks.names.get(network, network): endpoint(
                    service.name, network, given, service.aliases.get(network, ())
                )
                for network, given in addresses.items()
            },
            "Ports": {key: [{"HostPort": str(outer)}] for key, outer in service.ports.items()},
        },
    }
    made = parse_container(doc, settings, networks)
    if state is State.RUNNING:
        return made
    # its tasks' names exist while the service does, though nobody answers to them
    return replace(made, instances=tuple(_nobody(i) for i in made.instances))


def _nobody(instance: Instance) -> Instance:
    return replace(instance, task=True, addresses=())
