"""Small builders: containers, services and a world to ask about them, without sockets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import hypothesis

from discoverd.model import Address, Instance, Membership, Network, Port, SourceState
from discoverd.naming import to_name
from discoverd.registry import Registry
from discoverd.resolver.explain import TYPES, data_text
from discoverd.resolver.local import Local, Settings
from discoverd.resolver.outcome import Answer, NoData, NxDomain, Question, SrvData
from discoverd.views import Views

if TYPE_CHECKING:
    from discoverd.model import IPAddress
    from discoverd.registry import Writer
    from discoverd.resolver.outcome import Outcome, Record

#: For properties: how long one example takes says nothing on a machine that does other things too.
unhurried = hypothesis.settings(deadline=None)

ENGINE = "docker/test"
#: The containers' networks: 10.<number>.0.0/16 and fd00:<number>::/64.
NETWORKS = {"shop_default": 1, "blog_default": 2, "edge": 3, "backend": 4, "lonely": 5, "shop": 6}
#: Askers: on discoverd's own host, and beyond it.
HOST, LAN = "127.0.0.1", "192.168.7.7"
#: The host's own address.
OWN = "192.168.7.1"


def network(name: str, *, internal: bool = False, engine: str = ENGINE) -> Network:
    number = NETWORKS[name]
    return Network(
        id=f"{engine}/{name}",
        name=name,
        subnets=(ip_network(f"10.{number}.0.0/16"), ip_network(f"fd00:{number}::/64")),
        gateways=(ip_address(f"10.{number}.0.1"),),
        internal=internal,
    )


def short(name: str) -> str:
    """The twelve digits that a container of this name has for an id."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def container(
    service: str,
    last: int,
    *networks: str | tuple[str, ...],
    project: str = "",
    replica: int | None = None,
    name: str = "",
    six: bool = False,
    **fields: Any,
) -> Instance:
    """A container whose addresses end in ``last``; networks are names, or names and aliases there.

    A Compose container's replica is ``last`` where none is given.
    """
    if project and replica is None:
        replica = last
    name = name or (f"{project}-{service}-{replica}" if project else service)
    memberships, addresses = [], []
    for each in networks:
        net, *aliases = (each,) if isinstance(each, str) else each
        net_id = f"{fields.get('source', ENGINE)}/{net}"
        memberships.append(Membership(net, net_id, tuple(aliases)))
        addresses.append(Address(ip_address(f"10.{NETWORKS[net]}.0.{last}"), net, net_id))
        if six:
            addresses.append(Address(ip_address(f"fd00:{NETWORKS[net]}::{last:x}"), net, net_id))
    values: dict[str, Any] = {
        "id": name,
        "source": ENGINE,
        "scope": project,
        "replica": replica,
        "addresses": tuple(addresses),
        "memberships": tuple(memberships),
        "own_names": (to_name(name) or "",),
        "unique": short(name),
        "started_at": 1.0,
    }
    return Instance(service=service, **(values | fields))


def static(service: str, *ips: str, source: str = "static", **fields: Any) -> Instance:
    """A service that is in no container network."""
    label = f"{service}-{'-'.join(ips)}".replace(".", "-").replace(":", "-")
    values: dict[str, Any] = {"id": label, "unique": label}
    addresses = tuple(Address(ip_address(ip)) for ip in ips)
    return Instance(service=service, source=source, addresses=addresses, **(values | fields))


def tcp(*ports: int | tuple[str, int]) -> tuple[Port, ...]:
    """Ports by number, or by name and number."""
    return tuple(Port(p) if isinstance(p, int) else Port(p[1], name=p[0]) for p in ports)


class World:
    """A registry with its resolver, a clock that is set by hand, and instances that come and go."""

    def __init__(self, *instances: Instance, settings: Settings | None = None) -> None:
        self.now = 1000.0
        self.registry = Registry(clock=lambda: self.now)
        self.local = Local(self.registry, settings or Settings())
        self.own = frozenset({ip_address(OWN)})
        self.views = Views(self.registry, lambda: self.own)
        self.local.hosts = self.views.host_of
        self._writers: dict[str, Writer] = {}
        self.writer(ENGINE).networks(network(name) for name in NETWORKS)
        self.put(*instances)

    def writer(self, source: str) -> Writer:
        """A source's way in; the source is live from the first call on."""
        if source not in self._writers:
            self._writers[source] = self.registry.writer(source, source.partition("/")[0])
            self._writers[source].status(SourceState.LIVE)
        return self._writers[source]

    def put(self, *instances: Instance) -> None:
        for instance in instances:
            self.writer(instance.source).publish(instance.id, [instance])

    def remove(self, *instances: Instance) -> None:
        for instance in instances:
            self.writer(instance.source).publish(instance.id, [])

    def change(self, instance: Instance, **fields: Any) -> Instance:
        """Put a changed instance in its place."""
        changed = replace(instance, **fields)
        self.put(changed)
        return changed

    def set(self, **fields: Any) -> None:
        """Change settings of the resolver."""
        self.local.settings = replace(self.local.settings, **fields)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.registry.expire()

    def ask(self, name: str, wanted: str = "A", asker: str = HOST, asked: str | None = None) -> Outcome:
        own = ip_address(asked) if asked else None
        return self.local.resolve(Question(name, TYPES[wanted]), self.views.of(ip_address(asker), own), own)

    def ips(self, name: str, asker: str = HOST, wanted: str = "A") -> list[str]:
        """The addresses in an answer; none stands for NODATA, and anything else is a failure."""
        outcome = self.ask(name, wanted, asker)
        assert isinstance(outcome, Answer | NoData), f"{name}: {outcome}"
        return texts(outcome)

    def srv(self, name: str, asker: str = HOST) -> list[tuple[int, int, str]]:
        """Weight, port and target of each record; none stands for NODATA."""
        outcome = self.ask(name, "SRV", asker)
        assert isinstance(outcome, Answer | NoData), f"{name}: {outcome}"
        found = [r.data for r in outcome.records] if isinstance(outcome, Answer) else []
        assert all(isinstance(data, SrvData) and data.priority == 0 for data in found)
        return [(d.weight, d.port, d.target) for d in found if isinstance(d, SrvData)]


def texts(outcome: Outcome) -> list[str]:
    """The data of an answer in presentation format, none without one."""
    return [data_text(record) for record in outcome.records] if isinstance(outcome, Answer) else []


def ttls(outcome: Outcome) -> set[int]:
    assert isinstance(outcome, Answer), outcome
    return {record.ttl for record in (*outcome.records, *outcome.extra)}


def glue(outcome: Outcome) -> dict[str, set[str]]:
    """Owner to addresses of the additional section."""
    assert isinstance(outcome, Answer), outcome
    found: dict[str, set[str]] = {}
    for record in outcome.extra:
        assert record.owner is not None
        found.setdefault(record.owner, set()).add(data_text(record))
    return found


def negative(outcome: Outcome) -> tuple[str, str, int]:
    """What a negative answer says: NODATA or NXDOMAIN, whose SOA, and for how many seconds."""
    assert isinstance(outcome, NoData | NxDomain), outcome
    soa: Record = outcome.soa
    assert soa.owner is not None
    return "NODATA" if isinstance(outcome, NoData) else "NXDOMAIN", soa.owner, soa.ttl


def ip(text: str) -> IPAddress:
    return ip_address(text)
