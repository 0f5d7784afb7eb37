"""What of the registry stands on this host: its engines' containers, and processes registered with it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from discoverd.model import Instance, IPAddress
    from discoverd.registry import Change, Registry

#: Kinds of sources whose instances are this host's, or may be.
ENGINE, REGISTERED = "docker", "registered"
#: Interfaces that any engine of a kind has on its host: they tell none apart.
USUAL = frozenset({"", "docker0", "podman0", "cni-podman0"})
#: Digits of a container's id that its host name begins with.
ID_DIGITS = 12


class Host(Protocol):
    """The machine (:class:`discoverd.host.HostAddresses`)."""

    @property
    def name(self) -> str: ...
    def __call__(self) -> frozenset[IPAddress]: ...
    def on_link(self, address: IPAddress) -> bool: ...
    def interfaces(self) -> frozenset[str]: ...


class Engines:
    """Tells the engines of this host from those of others. ``remote``: source -> the host in its URL,
    for engines that are reached through a network.

    One that is reached by a socket is here. One that is reached through a network is here where that
    host is this one, a bridge of its own is an interface here, or discoverd is one of its containers;
    an address alone tells only where no other engine here has it, since all use the same ranges.
    """

    def __init__(self, registry: Registry, host: Host, remote: Mapping[str, str] | None = None) -> None:
        self._registry, self._host = registry, host
        self.remote: Mapping[str, str] = remote or {}

    def all(self) -> frozenset[str]:
        """The names of the sources that are engines."""
        return frozenset(s.name for s in self._registry.statuses() if _kind(s.name) == ENGINE)

    def here(self) -> frozenset[str]:
        """Those of them on this host."""
        near = {source for source in self.all() if not self._is_beyond(self.remote.get(source, ""))}
        far = sorted(self.all() - near)
        if far:
            near |= {source for source in far if self._is_surely_here(source)}
            held = {ip for source in near for ip in self._claims(source)}
            for source in far:
                claims = self._claims(source)
                if claims and held.isdisjoint(claims):
                    near.add(source)
                    held |= claims
        return frozenset(near)

    def on_link(self, address: IPAddress) -> bool:
        """Whether an address belongs to a network that this host itself is on."""
        return self._host.on_link(address)

    def _is_beyond(self, place: str) -> bool:
        if place in {"", "localhost"}:
            return False
        try:
            address = ip_address(place)
        except ValueError:
            return True
        return not address.is_loopback and address not in self._host()

    def _is_surely_here(self, source: str) -> bool:
        bridges = {network.bridge for network in self._registry.networks(source)} - USUAL
        if not bridges.isdisjoint(self._host.interfaces()):
            return True
        name = self._host.name
        own = (i for ip in self._host() for i in self._registry.at(ip) if i.source == source)
        return len(name) >= ID_DIGITS and any(i.id.startswith(name) for i in own)

    def _claims(self, source: str) -> set[IPAddress]:
        """The addresses of this host that an engine says are its bridges' or its containers'."""
        own = self._host()
        claimed = {ip for network in self._registry.networks(source) for ip in network.gateways if ip in own}
        for ip in own:
            for instance in self._registry.at(ip):
                if instance.source == source and any(a.ip == ip and a.network_id for a in instance.addresses):
                    claimed.add(ip)
        return claimed


class ThisHost:
    """A view of the registry for who tells others of this host."""

    def __init__(self, registry: Registry, engines: Engines) -> None:
        self._registry, self._engines = registry, engines

    def instances(self) -> Iterator[Instance]:
        here = self._engines.here()
        return (i for i in self._registry.instances() if i.source in here or _kind(i.source) == REGISTERED)

    def settled(self) -> bool:
        """Whether every source of such instances has said once what there is."""
        return not any(_kind(source) in (ENGINE, REGISTERED) for source in self._registry.syncing)

    def subscribe(self, told: Callable[[], None]) -> Callable[[], None]:
        """Be told of changes here; returns the way to stop it."""

        def changed(change: Change) -> None:
            touched = (*change.added, *change.removed, *(after for _, after in change.updated))
            if change.everything or any(_kind(i.source) in (ENGINE, REGISTERED) for i in touched):
                told()

        return self._registry.subscribe(changed)


def _kind(source: str) -> str:
    """What kind a source is of, by its name: ``docker/local``, ``registered``."""
    return source.partition("/")[0]
