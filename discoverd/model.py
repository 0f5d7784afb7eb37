"""What discoverd knows, as frozen values that are normalised once and never changed.

Everything below is built by a source's ``parse`` and only read after that. Names are
lower-case DNS labels relative to the domain, addresses are :mod:`ipaddress` values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def unmapped(address: IPAddress) -> IPAddress:
    """IPv4 without its wrapping: a socket for both families shows ``::ffff:172.18.0.3``."""
    return getattr(address, "ipv4_mapped", None) or address


class Health(StrEnum):
    """What is known of an instance's fitness. No check at all counts as healthy."""

    HEALTHY = "healthy"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"


class State(StrEnum):
    """Whether an instance can answer at all; only RUNNING ones (and a last DRAINING one) are served."""

    RUNNING = "running"
    DRAINING = "draining"  # it was sent its stop signal
    PAUSED = "paused"
    RESTARTING = "restarting"
    STOPPED = "stopped"  # created, exited, dead or being removed


class SourceState(StrEnum):
    """What a source can say of its own knowledge."""

    SYNCING = "syncing"  # never completed a first sync
    LIVE = "live"
    STALE = "stale"  # last known answers; the source itself is out of reach


@dataclass(frozen=True, slots=True)
class Address:
    """An instance's address on one network.

    ``network_id`` is unique across engines and decides views; ``network`` is the name people
    know. Both are empty where an address belongs to no container network (static, Consul).
    """

    ip: IPAddress
    network: str = ""
    network_id: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port an instance listens on, and the host port that leads to it where one is published."""

    port: int
    protocol: str = "tcp"
    name: str = ""
    published: int | None = None
    #: False where it is published on a loopback address of the host only.
    published_beyond_host: bool = True


@dataclass(frozen=True, slots=True)
class Membership:
    """An instance's place in one container network, with the aliases it has there.

    Kept for stopped instances as well: a stopped ``db`` of one project must not make its
    own clients fall over to another project's ``db``.
    """

    network: str
    network_id: str
    aliases: tuple[str, ...] = ()
    #: What the project's file calls the network, where that is not its whole name (``edge``).
    short: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link alias as one client sees it (``links: ["echo-server:talkto"]``): ``alias`` means the
    container called ``target`` for that client alone.
    """

    alias: str
    target: str


class CheckKind(StrEnum):
    """How discoverd itself looks whether an instance is well."""

    TCP = "tcp"
    HTTP = "http"
    DNS = "dns"


@dataclass(frozen=True, slots=True)
class Check:
    """A look that discoverd takes at an instance. ``path`` is HTTP's, or the name that DNS is asked for."""

    kind: CheckKind
    port: int
    path: str = ""

    def __str__(self) -> str:
        """As a label says it: ``tcp:8080``, ``http:8080/path``, ``dns:53/name``."""
        slash = "/" if self.kind is CheckKind.DNS else ""
        return f"{self.kind}:{self.port}{slash}{self.path}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One endpoint of a service: a container, a Swarm task, a Consul service instance, a process."""

    id: str
    service: str
    source: str
    scope: str = ""
    state: State = State.RUNNING
    health: Health = Health.HEALTHY
    #: Preferred first: the order that askers on the host and elsewhere are served by.
    addresses: tuple[Address, ...] = ()
    ports: tuple[Port, ...] = ()
    tags: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    #: Seconds; None means the configured default.
    ttl: int | None = None
    #: What discoverd is to look at by itself; None where the source tells the health.
    check: Check | None = None

    # What naming makes names of
    replica: int | None = None
    #: False for one-off containers, which answer to their own names only, and for tasks behind a virtual IP.
    in_service: bool = True
    #: A Swarm task: it answers to ``tasks.<service>`` and by its number as well, also behind a virtual IP.
    task: bool = False
    #: Names that belong to this instance alone, most readable first (container names).
    own_names: tuple[str, ...] = ()
    #: A label that no other instance has (12 hex digits of a container id): the SRV target.
    unique: str = ""
    hostname: str = ""
    #: Extra names relative to the domain, ``*.a`` for a wildcard.
    extra_names: tuple[str, ...] = ()
    memberships: tuple[Membership, ...] = ()
    links: tuple[Link, ...] = ()
    #: Addresses that it asks from and is not served at (Docker's gateway bridge for overlay networks).
    asks_from: tuple[IPAddress, ...] = ()
    #: It uses its host's own network stack: it is reached where its host is.
    on_host: bool = False

    #: What clients beyond the host reach published ports at; configured per engine.
    host_address: IPAddress | None = None
    #: Unix time of the last start; the newest wins where two claim one address.
    started_at: float = 0.0

    @property
    def network_ids(self) -> frozenset[str]:
        return frozenset(m.network_id for m in self.memberships)


@dataclass(frozen=True, slots=True)
class Network:
    """A container network, for telling where a question comes from."""

    id: str
    name: str
    subnets: tuple[IPNetwork, ...] = ()
    #: The host's own addresses on it; behind them an asker's identity is lost.
    gateways: tuple[IPAddress, ...] = ()
    #: True where the network has no way out; its clients get no recursion.
    internal: bool = False
    #: The interface that a bridge network has on its engine's host; empty where it is not known.
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source's own account of itself. Times are Unix seconds, None for never."""

    name: str
    kind: str
    state: SourceState = SourceState.SYNCING
    last_sync: float | None = None
    last_error: str | None = None
    #: True while what it says was said before this process: STALE, and not yet in step.
    restored: bool = False
    #: Counters the source wants shown, such as events seen and reconnects.
    detail: dict[str, int | str] = field(default_factory=dict)
