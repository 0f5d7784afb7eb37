"""Endpoints -> instances of ``<service>.docker``. Pure; docs/consul.md says what becomes of what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.catalog import Status
from discoverd.model import Address, Health, Instance, Port, State
from discoverd.naming import MAX_LABEL, to_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from discoverd.catalog import Endpoint

#: Hex digits behind a service's name that make it one instance's: 48 bits keep a million apart.
DIGITS = 12
#: Meta of what a discoverd registered: who it was, and by what name it goes there.
EXPORTER, SOURCE = "discoverd-instance", "external-source"


@dataclass(frozen=True, slots=True)
class Importer:
    """Makes instances of one datacenter's endpoints.

    ``own`` is (node, exporter) of this discoverd's own exports, which are left out: their
    containers are known already. An empty node stands for any. ``tagged`` is the tag of an
    address that goes first.
    """

    source: str
    datacenter: str
    own: tuple[str, str] = ("", "")
    only_passing: bool = False
    tagged: str = ""

    def instances(self, endpoints: Iterable[Endpoint]) -> tuple[Instance, ...]:
        return tuple(self._instance(e) for e in endpoints if not self._is_own(e))

    def _is_own(self, endpoint: Endpoint) -> bool:
        node, exporter = self.own
        return bool(exporter) and node in ("", endpoint.node.name) and (EXPORTER, exporter) in endpoint.meta

    def _instance(self, endpoint: Endpoint) -> Instance:
        identity = f"{self.datacenter}/{endpoint.node.name}/{endpoint.id}"
        service = to_label(endpoint.service) or "unnamed"
        return Instance(
            id=f"consul/{identity}",
            service=service,
            scope=to_label(self.datacenter) or "",
            source=self.source,
            state=State.PAUSED if endpoint.status is Status.MAINTENANCE else State.RUNNING,
            health=Health.HEALTHY if endpoint.served(only_passing=self.only_passing) else Health.UNHEALTHY,
            addresses=tuple(Address(ip_address(a)) for a in dict.fromkeys(self._addresses(endpoint))),
            ports=(Port(endpoint.port),) if 0 < endpoint.port < 65536 else (),
            tags=endpoint.tags,
            meta=endpoint.meta,
            weight=endpoint.weight if endpoint.status in _WEIGHTED else endpoint.weights[0],
            unique=unique_label(service, identity),
        )

    def _addresses(self, endpoint: Endpoint) -> Iterator[str]:
        """The tagged address asked for, else Service.Address, else the node's; then its IPv6 twin.

        Host names are left out: only ``.consul`` names can say them, as CNAME.
        """
        tagged, node_tagged = dict(endpoint.tagged), dict(endpoint.node.tagged)
        if endpoint.address:
            candidates = (tagged.get(self.tagged), endpoint.address, tagged.get("lan_ipv6"))
        else:
            candidates = (node_tagged.get(self.tagged), endpoint.node.address, node_tagged.get("lan_ipv6"))
        chosen = candidates[0] or candidates[1]
        for address in (chosen, candidates[2]):
            if address and _is_ip(address):
                yield address


_WEIGHTED = (Status.PASSING, Status.WARNING)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def unique_label(service: str, identity: str) -> str:
    """A label of one instance alone: the service's name and a hash of datacenter, node and service id."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:DIGITS]
    return f"{service[: MAX_LABEL - DIGITS - 1].rstrip('-')}-{digest}"
