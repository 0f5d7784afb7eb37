"""Services from the configuration file: known at start, changed by a reload only."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from discoverd.model import Address, Instance, Port, SourceState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from discoverd.config import ServiceConfig
    from discoverd.model import IPAddress
    from discoverd.sources.base import Sink

#: A DNS label holds 63 bytes (RFC 1035 section 2.3.4).
MAX_LABEL = 63


def instances(services: Iterable[ServiceConfig]) -> dict[str, list[Instance]]:
    """The objects that a list of services means: ``<service>[.<scope>]`` -> one instance for each address.

    Tables with the same name and scope add up, so that addresses can differ in port or weight.
    """
    objects: dict[str, list[Instance]] = {}
    taken: set[str] = set()
    for service in services:
        key = f"{service.name}.{service.scope}" if service.scope else service.name
        members = objects.setdefault(key, [])
        for ip in service.addresses:
            label = unique_label(service.name, service.scope, ip, taken)
            taken.add(label)
            members.append(_instance(service, key, ip, label))
    return objects


def _instance(service: ServiceConfig, key: str, ip: IPAddress, label: str) -> Instance:
    return Instance(
        id=f"static/{key}/{ip}",
        service=service.name,
        scope=service.scope,
        source="static",
        addresses=(Address(ip),),
        ports=tuple(
            Port(port=spec.port, protocol=spec.protocol, name=spec.name) for spec in service.all_ports
        ),
        tags=service.tags,
        meta=service.meta,
        weight=service.weight,
        ttl=service.ttl,
        unique=label,
    )


def unique_label(service: str, scope: str, ip: IPAddress, taken: Iterable[str] = ()) -> str:
    """A DNS label for one address of a service: ``web-10-0-0-1``, ``web-shop-10-0-0-1``.

    An IPv6 address is written in full, without its colons. What is too long or taken is cut
    and ends in a hash of the whole instead.
    """
    address = str(ip).replace(".", "-") if ip.version == 4 else ip.packed.hex()
    label = "-".join(part for part in (service, scope, address) if part)
    if len(label) <= MAX_LABEL and label not in taken:
        return label
    digest = hashlib.sha256(f"{service}.{scope}/{ip}".encode()).hexdigest()[:12]
    return f"{label[: MAX_LABEL - 13].rstrip('-')}-{digest}"


class StaticSource:
    """Publishes the configured services once, and again when they are replaced."""

    name = "static"
    kind = "static"

    def __init__(self, sink: Sink, services: Iterable[ServiceConfig]) -> None:
        self._sink = sink
        self._services = tuple(services)

    async def run(self) -> None:
        self._publish()
        await asyncio.Event().wait()  # nothing more happens by itself; the owner cancels

    def reload(self, services: Iterable[ServiceConfig]) -> None:
        """Replace the services; those no longer configured are gone at once."""
        self._services = tuple(services)
        self._publish()

    def _publish(self) -> None:
        self._sink.replace(instances(self._services))
        self._sink.status(SourceState.LIVE)
