"""An asker's address to the view of the registry it gets: the contract's "answers that the asker can reach".

Pure but for what it reads of the registry; see docs/names.md, section "Which instances".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING

from discoverd.model import Address, unmapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discoverd.model import Instance, IPAddress, IPNetwork, Link, Network
    from discoverd.registry import Change, Registry
    from discoverd.thishost import Engines


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
    ``away`` are engines on other hosts than the asker's; ``taken`` are ranges of theirs that lead to
    containers of its own host.
    """

    place: Place
    networks: frozenset[str] = frozenset()
    links: tuple[Link, ...] = ()
    source: str = ""
    recursion: bool = True
    scope: str = ""
    away: frozenset[str] = frozenset()
    taken: frozenset[IPNetwork] = frozenset()


HOST = View(Place.HOST)
LOOPBACK = Address(ip_address("127.0.0.1"))
ELSEWHERE = View(Place.ELSEWHERE)


class Views:
    """Tells views apart by the registry's endpoints and networks and the host's own addresses.

    Without ``engines`` there are none on other hosts.
    """

    def __init__(
        self,
        registry: Registry,
        host_addresses: Callable[[], frozenset[IPAddress]],
        engines: Engines | None = None,
    ) -> None:
        self._registry, self._host_addresses, self._engines = registry, host_addresses, engines
        #: What :meth:`_taken_by` found, until networks change.
        self._taken: dict[frozenset[str], frozenset[IPNetwork]] = {}
        registry.subscribe(self._changed)

    def of(self, asker: IPAddress, asked: IPAddress | None = None) -> View:
        """The view of an asker that sent its question to the address ``asked`` (None: not known)."""
        asker = unmapped(asker)
        if asker.is_loopback or asker in self._host_addresses():
            return self._among_engines(HOST, *(self._engines.here() if self._engines else ()))
        client = self._client(asker)
        if client is not None:
            return self._among_engines(self._of_client(client, asker), client.source)
        found = self._network_around(asker)
        if found is None:
            return ELSEWHERE
        source, network = found
        # A gateway's or a not yet known address: the asker itself is hidden, its network is not,
        # and the network that the packet came in by tells more than the address that hides it.
        came_in = self._network_around(unmapped(asked)) if asked and asker in network.gateways else None
        source, network = came_in or found
        ids = frozenset({network.id})
        view = View(Place.NETWORK, ids, recursion=self._leads_out(ids))
        return self._among_engines(view, source)

    def hidden(self, asker: IPAddress) -> bool:
        """Whether an address stands for askers that are told apart only by where they asked."""
        asker = unmapped(asker)
        return any(asker in n.gateways for n in self._registry.networks())

    def client(self, asker: IPAddress) -> Instance | None:
        """The container that asks, for explaining; None where it is none of them."""
        asker = unmapped(asker)
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
        on_it = view.place is Place.HOST and source not in view.away
        own = self._host_addresses() if on_it else frozenset()
        return (LOOPBACK,) if any(not own.isdisjoint(n.gateways) for n in networks) else ()

    def _client(self, asker: IPAddress) -> Instance | None:
        held = [
            i
            for i in self._registry.at(asker)
            if asker in i.asks_from or any(a.ip == asker and a.network_id for a in i.addresses)
        ]
        sources = self._credible(asker, {i.source for i in held}) if held else set()
        return next((i for i in held if i.source in sources), None)

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

    def _leads_out(self, ids: frozenset[str]) -> bool:
        known = [n for n in self._registry.networks() if n.id in ids]
        return not known or any(not n.internal for n in known)

    def _network_around(self, asker: IPAddress) -> tuple[str, Network] | None:
        """The smallest known container network whose subnet holds the address, and whose it is."""
        sources = self._credible(asker, set())
        around = [each for each in self._around(asker) if each[1] in sources]
        return max(around, key=lambda each: each[0])[1:] if around else None

    def _around(self, asker: IPAddress) -> Iterator[tuple[int, str, Network]]:
        """(bits of the subnet, source, network)"""
        for source, networks in self._registry.networks_by_source().items():
            for network in networks:
                held = [subnet.prefixlen for subnet in network.subnets if asker in subnet]
                if held:
                    yield max(held), source, network

    # -- several engines ------------------------------------------------------------------

    def _credible(self, asker: IPAddress, holding: set[str]) -> set[str]:
        """Whose container an address can be that asks here; sources in ``holding`` have one at it.

        All engines use the same ranges by default. What this host's own bridges have is on them, and
        what is on a link of this host's is no container behind another host. Where two engines of
        other hosts are left, nobody can tell.
        """
        here = self._engines.here() if self._engines else frozenset(holding)
        if near := holding & here:
            return near  # as nearly always; looking through all networks takes a while
        around = list(self._around(asker))
        if self._engines is None:
            return {source for _, source, _ in around}
        bridged = {source for _, source, network in around if network.gateways}
        if near := bridged & here:
            return near
        left = holding | {source for _, source, _ in around}
        if self._engines.on_link(asker):
            left -= bridged  # a macvlan's containers are on the link itself
        if not holding & left:
            most = max((bits for bits, source, _ in around if source in left), default=0)
            left &= {source for bits, source, _ in around if bits == most}
        return left & here or (left if len(left) == 1 else set())

    def _among_engines(self, view: View, *own: str) -> View:
        """The view of who is on the host of the engines ``own``."""
        if self._engines is None:
            return view
        here = self._engines.here()
        near = here.union(own) if not here.isdisjoint(own) else frozenset(own)
        away = self._engines.all() - near
        return replace(view, away=away, taken=self._taken_by(near, away)) if away else view

    def _taken_by(self, near: frozenset[str], away: frozenset[str]) -> frozenset[IPNetwork]:
        """The ranges of engines on one host that engines elsewhere have as well."""
        if (found := self._taken.get(near)) is None:
            every = self._registry.networks_by_source()
            mine, theirs = (
                [
                    subnet
                    for source in sources
                    for network in every.get(source, ())
                    for subnet in network.subnets
                ]
                for sources in (near, away)
            )
            found = frozenset(
                m for m in mine if any(m.version == t.version and m.overlaps(t) for t in theirs)
            )
            self._taken[near] = found
        return found

    def _changed(self, change: Change) -> None:
        if change.everything:
            self._taken.clear()
