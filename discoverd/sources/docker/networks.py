"""Where a container is on the engine's networks, and what these networks are. Pure.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Network
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from discoverd.model import Address, Link, Membership, Network
from discoverd.sources.docker.shape import objects, part, text, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from discoverd.model import IPAddress, IPNetwork
    from discoverd.sources.docker.shape import Json

    NameMaker = Callable[[str, str], str]

#: These have neither addresses nor names of their own.
_NO_NETWORK = frozenset({"host", "null"})
_COMPOSE = "com.docker.compose."
_BRIDGE = "com.docker.network.bridge.name"
_TEMPORARY = re.compile(r"[0-9a-f]{12}_.+")


@dataclass(frozen=True, slots=True)
class NetworkMap:
    """What an engine said of its networks, for finding them by the names that containers use."""

    networks: tuple[Network, ...] = ()
    #: Name or id -> id: created containers know their networks by name only.
    ids: Mapping[str, str] = field(default_factory=dict)
    #: Ids and names of those that nobody is reached by: host, none, Swarm's ingress.
    hidden: frozenset[str] = frozenset()
    #: Id -> (project, what that project's file calls it), for those that Compose made.
    composed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: Id -> name.
    names: Mapping[str, str] = field(default_factory=dict)
    #: True where some of them are a swarm's: the engine is one of its nodes.
    swarm: bool = False

    def knows(self, name: str) -> bool:
        return name in self.ids or name in self.hidden


@dataclass(frozen=True, slots=True)
class Ground:
    """The network stack of a container; others may stand on it too (``--network container:x``)."""

    memberships: tuple[Membership, ...] = ()
    addresses: tuple[Address, ...] = ()
    #: (port, protocol) -> (host port, True where it can be reached from beyond the host)
    published: Mapping[tuple[int, str], tuple[int, bool]] = field(default_factory=dict)
    #: True where it is the host's own.
    on_host: bool = False


def parse_networks(docs: Iterable[Json], engine: str) -> NetworkMap:
    """Read the answer to ``GET /networks``; ids become ``<engine>/<id>``."""
    networks: list[Network] = []
    ids: dict[str, str] = {}
    hidden: set[str] = set()
    composed: dict[str, tuple[str, str]] = {}
    swarm = False
    for doc in docs:
        network_id, name = text(doc, "Id"), text(doc, "Name")
        swarm |= text(doc, "Scope") == "swarm"
        if text(doc, "Driver") in _NO_NETWORK or doc.get("Ingress") is True:
            hidden |= {network_id, name}
            continue
        ids |= {name: network_id, network_id: network_id}
        labels = part(doc, "Labels")
        if short := text(labels, _COMPOSE + "network"):
            composed[network_id] = text(labels, _COMPOSE + "project"), short
        config = objects(part(doc, "IPAM"), "Config")
        bridge = text(doc, "Driver") == "bridge"  # elsewhere the gateway is another machine's
        networks.append(
            Network(
                id=f"{engine}/{network_id}",
                name=name,
                subnets=tuple(net for c in config if (net := _network(text(c, "Subnet")))),
                gateways=tuple(ip for c in config if bridge and (ip := _gateway(c))),
                internal=doc.get("Internal") is True,
                bridge=(text(part(doc, "Options"), _BRIDGE) or f"br-{network_id[:12]}") if bridge else "",
            )
        )
    # the engine lists them in another order each time, which is no change
    names = {known: name for name, known in ids.items() if name != known}
    return NetworkMap(
        tuple(sorted(networks, key=lambda n: n.id)), ids, frozenset(hidden), composed, names, swarm
    )


def _network(given: str) -> IPNetwork | None:
    try:
        return ipaddress.ip_network(given)
    except ValueError:  # a plugin's driver may give none
        return None


def _address(given: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(given.partition("/")[0])
    except ValueError:
        return None


def _gateway(config: Json) -> IPAddress | None:
    """The bridge's own address; the engine tells only one that somebody chose.

    Else it took the first of the range, or of the subnet after the network's own address.
    """
    if given := _address(text(config, "Gateway")):
        return given
    subnet, pool = _network(text(config, "Subnet")), _network(text(config, "IPRange"))
    if subnet is None:
        return None
    first = (pool or subnet).network_address
    return first + 1 if first == subnet.network_address else first


def parse_ground(
    doc: Json,
    known: NetworkMap,
    engine: str,
    *,
    running: bool,
    project: str,
    preferred: Sequence[str],
    make: NameMaker,
    plain: Container[str],
) -> Ground:
    """Read a container's own networks; addresses only while it runs, since stopped ones keep stale ones.

    ``preferred`` are names of networks that go first, by their whole name or by that in the file of
    ``project``; ``make`` makes DNS names of aliases; ``plain`` are names that are no aliases, though
    the engine lists them as such.
    """
    memberships: list[Membership] = []
    addresses: list[Address] = []
    given = part(doc, "NetworkSettings", "Networks")
    told = {name: text(part(given, name), "NetworkID") or name for name in given}
    found = {name: known.ids.get(told[name], told[name]) for name in given}  # Podman 4 tells names for ids
    shorts = {name: _short(known, found[name], project) for name in given}

    def rank(name: str) -> tuple[int, str]:
        called = [preferred.index(n) for n in (name, shorts[name]) if n and n in preferred]
        return min(called, default=len(preferred)), name

    for name in sorted(given, key=rank):
        if found[name] in known.hidden or name in {"host", "none"}:
            continue
        endpoint, network_id = part(given, name), f"{engine}/{found[name]}"
        aliases = tuple(_aliases(endpoint, make, plain))
        memberships.append(Membership(name, network_id, aliases, shorts[name]))
        if running:
            ips = (_address(text(endpoint, key)) for key in ("IPAddress", "GlobalIPv6Address"))
            addresses += [Address(ip, name, network_id) for ip in ips if ip]
    return Ground(tuple(memberships), tuple(addresses), _published(doc) if running else {})


def _short(known: NetworkMap, network: str, project: str) -> str:
    """What the project's own file calls a network."""
    owner, short = known.composed.get(network, ("", ""))
    return short if project and owner == project else ""


def _aliases(endpoint: Json, make: NameMaker, plain: Container[str]) -> Iterator[str]:
    listed = texts(endpoint, "DNSNames") or texts(endpoint, "Aliases")
    made = (
        make("alias", alias) for alias in listed if alias.lower() not in plain and not is_temporary(alias)
    )
    yield from dict.fromkeys(name for name in made if name and name not in plain)


def is_temporary(name: str) -> bool:
    """Whether it is the name that Compose gives one container in place of another (``<id>_shop-web-1``)."""
    return _TEMPORARY.fullmatch(name) is not None


def split_port(key: str) -> tuple[int, str] | None:
    """``80/tcp`` or ``80`` (Compose writes both) as number and protocol; None for anything else."""
    number, _, protocol = key.partition("/")
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 0 < int(number) < 65536):
        return None
    return int(number), (protocol or "tcp").lower()


def _published(doc: Json) -> dict[tuple[int, str], tuple[int, bool]]:
    found: dict[tuple[int, str], tuple[int, bool]] = {}
    ports = part(doc, "NetworkSettings", "Ports")
    for key in ports:
        inner = split_port(key)
        for binding in objects(ports, key):
            outer = split_port(text(binding, "HostPort"))
            if inner is None or outer is None:
                continue
            host_ip = _address(text(binding, "HostIp"))
            beyond = host_ip is None or not host_ip.is_loopback
            if inner not in found or (beyond and not found[inner][1]):
                found[inner] = outer[0], beyond
    return found


def parse_links(doc: Json, make: NameMaker) -> tuple[Link, ...]:
    """The container's links: ``shop-web-1:talkto`` on networks, ``/base:/lnk2/bb2`` on the default bridge."""
    entries = texts(part(doc, "HostConfig"), "Links")
    networks = part(doc, "NetworkSettings", "Networks")
    for name in networks:
        entries += texts(part(networks, name), "Links")
    links: dict[Link, None] = {}
    for entry in entries:
        target, _, alias = entry.partition(":")
        made = make("link", alias.rpartition("/")[2]), make("link", target.rpartition("/")[2])
        if all(made):
            links[Link(*made)] = None
    return tuple(links)
