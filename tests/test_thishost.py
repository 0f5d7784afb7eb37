"""Which engines are this host's, and whose container an address is where several engines have it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from discoverd.model import Address, Instance, Membership, Network, Port, SourceState
from discoverd.registry import Registry
from discoverd.resolver.select import Policy, select
from discoverd.thishost import Engines, ThisHost
from discoverd.views import ELSEWHERE, Place, Views
from tests.build import ip

if TYPE_CHECKING:
    from discoverd.model import IPAddress

#: Two hosts fresh from the installer: their engines have the same ranges.
NEAR, FAR, OTHER = "docker/near", "docker/far", "docker/other"
LAN = ip_network("192.0.2.0/24")
OWN, FAR_HOST, SOMEBODY = "192.0.2.10", "192.0.2.2", "192.0.2.99"


@dataclass
class Host:
    """A machine as it is told to be."""

    addresses: set[str] = field(default_factory=lambda: {"127.0.0.1", OWN})
    links: set[str] = field(default_factory=lambda: {"lo", "eth0"})
    name: str = "rack-1"

    def __call__(self) -> frozenset[IPAddress]:
        return frozenset(map(ip, self.addresses))

    def on_link(self, address: IPAddress) -> bool:
        return address in LAN

    def interfaces(self) -> frozenset[str]:
        return frozenset(self.links)


@dataclass
class Machines:
    """discoverd's host, and what the engines said."""

    host: Host = field(default_factory=Host)
    registry: Registry = field(default_factory=Registry)

    def __post_init__(self) -> None:
        self.engines = Engines(self.registry, self.host)
        self.views = Views(self.registry, self.host, self.engines)

    def engine(self, name: str, *subnets: str, remote: str = "", bridge: str = "docker0") -> None:
        """One with a bridge for each subnet, the first called ``bridge``."""
        writer = self.registry.writer(name, "docker")
        writer.networks(
            Network(
                id=f"{name}/{number}",
                name=f"n{number}",
                subnets=(ip_network(subnet),),
                gateways=(ip(f"{subnet.rpartition('.')[0]}.1"),),
                bridge=f"br-{name[-4:]}{number}" if number else bridge,
            )
            for number, subnet in enumerate(subnets)
        )
        writer.status(SourceState.LIVE)
        if remote:
            self.engines.remote = {**self.engines.remote, name: remote}

    def run(self, engine: str, address: str, **fields: object) -> Instance:
        number = next(n.id for n in self.registry.networks(engine) if ip(address) in n.subnets[0])
        made = Instance(
            id=f"{engine[-4:]}{address}",
            service="web",
            source=engine,
            addresses=(Address(ip(address), "n", number),),
            memberships=(Membership("n", number),),
        )
        made = replace(made, **fields)  # type: ignore[arg-type]
        self.registry.write(engine, {made.id: [made]}, full=False)
        return made

    def answer(self, asker: str) -> set[str]:
        view = self.views.of(ip(asker))
        picked = select(self.registry.names.find("web"), view, Policy(), self.views.host_of)
        return {str(a.ip) for c in picked.chosen for a in c.addresses}


@pytest.fixture
def twins() -> Machines:
    """The first is here, by its socket; its bridge's address is this host's."""
    made = Machines(Host({"127.0.0.1", OWN, "172.17.0.1", "172.18.0.1"}))
    made.engine(NEAR, "172.17.0.0/16", "172.18.0.0/16")
    made.engine(FAR, "172.17.0.0/16", "172.18.0.0/16", remote=FAR_HOST)
    return made


def test_an_engine_behind_a_socket_is_here() -> None:
    made = Machines()
    made.engine(NEAR, "172.17.0.0/16")
    assert made.engines.here() == {NEAR}


@pytest.mark.parametrize(
    ("remote", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), (OWN, True), (FAR_HOST, False), ("db", False)],
)
def test_one_behind_an_address_is_where_that_is(remote: str, here: bool) -> None:
    made = Machines()
    made.engine(NEAR, "172.17.0.0/16", remote=remote)
    assert (made.engines.here() == {NEAR}) is here


def test_a_bridge_that_is_an_interface_here_tells_more_than_an_address() -> None:
    """As behind a proxy that lets only harmless calls through to the socket."""
    made = Machines(Host({"127.0.0.1", OWN, "172.17.0.1"}, {"lo", "docker0", "br-near1"}))
    made.engine(FAR, "172.17.0.0/16", "172.18.0.0/16", remote=FAR_HOST)
    made.engine(NEAR, "172.17.0.0/16", "172.18.0.0/16", remote="socket-proxy")
    assert made.engines.here() == {NEAR}


def test_so_does_being_one_of_its_containers() -> None:
    made = Machines(Host({"127.0.0.1", "172.17.0.5"}, name="3f0a2b9c41de"))
    for engine in (FAR, NEAR):
        made.engine(engine, "172.17.0.0/16", remote=f"proxy-{engine[-4:]}")
    made.run(FAR, "172.17.0.5")
    made.run(NEAR, "172.17.0.5", id="3f0a2b9c41de" + "0" * 52)
    assert made.engines.here() == {NEAR}


def test_an_address_tells_where_no_other_engine_here_has_it(twins: Machines) -> None:
    assert twins.engines.here() == {NEAR}
    twins.host.addresses.add("172.30.0.1")
    twins.engine(OTHER, "172.17.0.0/16", "172.30.0.0/16", remote="proxy")
    assert twins.engines.here() == {NEAR}
    twins.engine(OTHER, "172.30.0.0/16", remote="proxy")
    assert twins.engines.here() == {NEAR, OTHER}


def test_what_others_are_told_of_is_what_stands_here(twins: Machines) -> None:
    twins.run(NEAR, "172.17.0.5")
    twins.run(FAR, "172.17.0.5")
    twins.registry.writer("registered", "registered").publish("job", [Instance("job", "job", "registered")])
    twins.registry.writer("static", "static").publish("s", [Instance("s", "s", "static")])
    assert {i.source for i in ThisHost(twins.registry, twins.engines).instances()} == {NEAR, "registered"}


# -- askers --------------------------------------------------------------------------------------


def test_an_address_that_two_engines_have_is_the_near_ones(twins: Machines) -> None:
    twins.run(FAR, "172.17.0.5", started_at=9.0)
    near = twins.run(NEAR, "172.17.0.5", started_at=1.0)
    assert twins.views.client(ip("172.17.0.5")) is near
    assert twins.views.of(ip("172.17.0.5")).networks == {f"{NEAR}/0"}


def test_one_that_only_the_far_engine_knows_is_a_near_container_too_new_to_be_known(twins: Machines) -> None:
    twins.run(FAR, "172.18.0.5")
    assert twins.views.client(ip("172.18.0.5")) is None
    assert twins.views.of(ip("172.18.0.5")).networks == {f"{NEAR}/1"}


def test_a_far_engines_own_range_that_is_routed_here_tells_its_askers(twins: Machines) -> None:
    twins.engine(FAR, "172.17.0.0/16", "10.20.0.0/16", remote=FAR_HOST)
    far = twins.run(FAR, "10.20.0.5")
    assert twins.views.client(ip("10.20.0.5")) is far
    assert twins.views.of(ip("10.20.0.6")).networks == {f"{FAR}/1"}


def test_two_far_engines_with_one_range_tell_nothing() -> None:
    made = Machines()
    for engine in (FAR, OTHER):
        made.engine(engine, "172.17.0.0/16", remote=f"{engine[-3:]}.example")
        made.run(engine, "172.17.0.5")
    assert made.views.of(ip("172.17.0.5")).place is Place.ELSEWHERE
    assert made.views.of(ip("172.17.0.6")).place is Place.ELSEWHERE
    assert made.views.client(ip("172.17.0.5")) is None


def test_who_is_on_a_link_of_this_hosts_is_no_container_behind_another(twins: Machines) -> None:
    """A LAN that uses a range that some engine uses, too."""
    twins.engine(FAR, str(LAN), remote=FAR_HOST)
    twins.run(FAR, SOMEBODY)
    assert twins.views.of(ip(SOMEBODY)) == ELSEWHERE


def test_but_for_a_network_that_is_the_link_itself(twins: Machines) -> None:
    """A macvlan's containers are neighbours on the LAN, wherever their engine is."""
    twins.engine(FAR, str(LAN), remote=FAR_HOST)
    (network,) = twins.registry.networks(FAR)
    twins.registry.set_networks(FAR, [replace(network, gateways=(), bridge="")])
    twins.run(FAR, SOMEBODY)
    assert twins.views.of(ip(SOMEBODY)).networks == {network.id}


# -- addresses -----------------------------------------------------------------------------------


def test_a_range_of_another_host_that_leads_to_this_ones_containers_is_left_out(twins: Machines) -> None:
    twins.engine(FAR, "172.17.0.0/16", "10.20.0.0/16", remote=FAR_HOST)
    near, far = twins.run(NEAR, "172.17.0.5"), twins.run(FAR, "172.17.0.6")
    assert twins.answer("127.0.0.1") == twins.answer("172.18.0.9") == {"172.17.0.5"}
    twins.run(FAR, "10.20.0.7")
    assert twins.answer("127.0.0.1") == {"172.17.0.5", "10.20.0.7"}
    # whoever asks from elsewhere has routes that nobody here knows of
    assert twins.answer("203.0.113.9") == {"172.17.0.5", "172.17.0.6", "10.20.0.7"}
    twins.registry.write(NEAR, {near.id: []}, full=False)
    twins.registry.write(FAR, {far.id: []}, full=False)
    assert twins.answer("127.0.0.1") == {"10.20.0.7"}


def test_beyond_an_instances_own_host_its_host_address_counts(twins: Machines) -> None:
    twins.engine(FAR, "172.17.0.0/16", "10.20.0.0/16", remote=FAR_HOST)
    known = {"host_address": ip(FAR_HOST), "ports": (Port(80, published=8080),)}
    twins.run(NEAR, "172.17.0.5")
    twins.run(FAR, "172.17.0.6", **known)
    assert twins.answer("127.0.0.1") == {"172.17.0.5", FAR_HOST}
    assert twins.answer("172.18.0.9") == {"172.17.0.5", FAR_HOST}
    assert twins.answer("10.20.0.5") == {"172.17.0.6"}, "on its own host it is reached directly"
    twins.run(FAR, "172.17.0.6", **known | {"ports": (Port(80),)})
    assert twins.answer("127.0.0.1") == {"172.17.0.5"}
