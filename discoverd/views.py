"""An asker's address to the view of the registry it gets: the contract's "answers that the asker can reach".

Pure but for what it reads of the registry; see docs/names.md, section "Which instances".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoverd.model import Instance, IPAddress, Link, Network
    from discoverd.registry import Registry


class Place(StrEnum):
    """Where a question comes from."""

    NETWORK = "inside a container network"
    HOST = "on the host itself"
    ELSEWHERE = "beyond the host"


@dataclass(frozen=True, slots=True)
class View:
    """What of an asker decides its answers. Equal views get equal answers.

    ``links`` are the asker's own link aliases, with targets on the engine ``source``. ``recursion``
    is False for askers whose networks have no way out. ``scope`` is the asker's own project.
    """

    place: Place
    networks: frozenset[str] = frozenset()
    links: tuple[Link, ...] = ()
    source: str = ""
    recursion: bool = True
    scope: str = ""


HOST = View(Place.HOST)
LOOPBACK = Address(ip_address("127.0.0.1"))
ELSEWHERE = View(Place.ELSEWHERE)


class Views:
    """Tells views apart by the registry's endpoints and networks and the host's own addresses."""

    def __init__(self, registry: Registry, host_addresses: Callable[[], frozenset[IPAddress]]) -> None:
        self._registry, self._host_addresses = registry, host_addresses

    def of(self, asker: IPAddress, asked: IPAddress | None = None) -> View:
        """The view of an asker that sent its question to the address ``asked`` (None: not known)."""
        asker = _plain(asker)
        if asker.is_loopback or asker in self._host_addresses():
            return HOST
        client = self._client(asker)
        if client is not None:
            return self._of_client(client, asker)
        network = self._network_around(asker)
        if network is None:
            return ELSEWHERE
        # A gateway's or a not yet known address: the asker itself is hidden, its network is not,
        # and the network that the packet came in by tells more than the address that hides it.
        came_in = self._network_around(_plain(asked)) if asked and asker in network.gateways else None
        return self._of_networks((came_in or network).id)

    def hidden(self, asker: IPAddress) -> bool:
        """Whether an address stands for askers that are told apart only by where they asked."""
        asker = _plain(asker)
        return any(asker in n.gateways for n in self._registry.networks())

    def client(self, asker: IPAddress) -> Instance | None:
        """The container that asks, for explaining; None where it is none of them."""
        asker = _plain(asker)
        return None if asker.is_loopback or asker in self._host_addresses() else self._client(asker)

    def host_of(self, source: str, view: View) -> tuple[Address, ...]:
        """Where such an asker reaches the host that a source's engine runs on; nothing where none is known.

        In a container network that is the host's own address on it. On the host it is loopback,
        but only if this is that host: one of the engine's bridges has its address here.
        """
        networks = tuple(self._registry.networks(source))
        if view.place is Place.NETWORK:
            near = sorted((n for n in networks if n.id in view.networks), key=lambda n: n.name)
            return tuple(Address(ip, n.name, n.id) for n in near for ip in n.gateways)
        own = self._host_addresses() if view.place is Place.HOST else frozenset()
        return (LOOPBACK,) if any(not own.isdisjoint(n.gateways) for n in networks) else ()

    def _client(self, asker: IPAddress) -> Instance | None:
        for instance in self._registry.at(asker):
            if any(a.ip == asker and a.network_id for a in instance.addresses):
                return instance
        return None

    def _of_client(self, client: Instance, asker: IPAddress) -> View:
        ids = frozenset(a.network_id for a in client.addresses if a.network_id)
        # others may stand on the same network stack: what they ask cannot be told apart
        stack = [
            i
            for i in self._registry.at(asker)
            if i.source == client.source and i.addresses == client.addresses
        ]
        links = tuple(dict.fromkeys(link for instance in stack for link in instance.links))
        source = client.source if links else ""
        return View(Place.NETWORK, ids, links, source, self._leads_out(ids), client.scope)

    def _of_networks(self, *ids: str) -> View:
        networks = frozenset(ids)
        return View(Place.NETWORK, networks, recursion=self._leads_out(networks))

    def _leads_out(self, ids: frozenset[str]) -> bool:
        known = [n for n in self._registry.networks() if n.id in ids]
        return not known or any(not n.internal for n in known)

    def _network_around(self, asker: IPAddress) -> Network | None:
        """The smallest known container network whose subnet holds the address."""
        best: tuple[int, Network] | None = None
        for network in self._registry.networks():
            for subnet in network.subnets:
                if asker in subnet and (best is None or subnet.prefixlen > best[0]):
                    best = subnet.prefixlen, network
        return best[1] if best else None


def _plain(address: IPAddress) -> IPAddress:
    """IPv4 without its wrapping: a socket for both families shows ``::ffff:172.18.0.3``."""
    return getattr(address, "ipv4_mapped", None) or address
