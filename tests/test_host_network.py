"""Instances that use their host's own network stack: where each asker reaches that host."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from discoverd.model import Address, Instance, Network, SourceState
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from discoverd.resolver.outcome import AAAA, A, Answer, NoData, Question
from discoverd.resolver.select import Policy
from discoverd.views import Views

if TYPE_CHECKING:
    from discoverd.model import IPAddress

NEAR, FAR = "docker/near", "docker/far"
#: The bridges of two engines. The first one's host is where discoverd runs.
NETWORKS = {
    NEAR: (("red", "10.1.0", "fd01"), ("blue", "10.2.0", "fd02")),
    FAR: (("green", "10.3.0", "fd03"),),
}
OWN = frozenset(map(ip_address, ("192.0.2.1", "10.1.0.1", "10.2.0.1")))


def network(name: str, four: str, six: str) -> Network:
    subnets = ip_network(f"{four}.0/24"), ip_network(f"{six}::/64")
    return Network(name, name, subnets, (ip_address(f"{four}.1"), ip_address(f"{six}::1")))


@pytest.fixture
def local() -> Local:
    registry = Registry()
    local = Local(registry, Settings(policy=Policy(strict=True)))
    local.hosts = Views(registry, lambda: OWN).host_of
    for source, networks in NETWORKS.items():
        writer = registry.writer(source, "docker")
        writer.networks(network(*each) for each in networks)
        name = "web" + source.partition("/")[2]
        writer.publish(name, [Instance(name, name, source, on_host=True)])
        known = Address(ip_address("198.51.100.1"))
        writer.publish("k", [Instance("k", "known", source, on_host=True, addresses=(known,))])
        writer.status(SourceState.LIVE)
    return local


def ask(local: Local, asker: str, name: str, rtype: int = A) -> set[str]:
    address: IPAddress = ip_address(asker)
    view = Views(local.registry, lambda: OWN).of(address)
    outcome = local.resolve(Question(f"{name}.docker", rtype), view)
    if isinstance(outcome, NoData):
        return set()
    assert isinstance(outcome, Answer)
    return {str(record.data) for record in outcome.records}


@pytest.mark.parametrize(
    ("asker", "name", "addresses"),
    [
        ("10.1.0.7", "webnear", {"10.1.0.1"}),
        ("10.2.0.7", "webnear", {"10.2.0.1"}),
        ("127.0.0.1", "webnear", {"127.0.0.1"}),
        ("192.0.2.1", "webnear", {"127.0.0.1"}),
        ("203.0.113.9", "webnear", set()),
        # another engine's bridges lead to another host, and so does loopback
        ("10.1.0.7", "webfar", set()),
        ("127.0.0.1", "webfar", set()),
        ("10.3.0.7", "webfar", {"10.3.0.1"}),
        ("10.3.0.7", "webnear", set()),
        # what somebody said holds where nothing nearer is known
        ("10.3.0.7", "known", {"10.3.0.1", "198.51.100.1"}),
        ("127.0.0.1", "known", {"127.0.0.1", "198.51.100.1"}),
    ],
)
def test_where_the_host_is(local: Local, asker: str, name: str, addresses: set[str]) -> None:
    assert ask(local, asker, name) == addresses


def test_over_both_protocols(local: Local) -> None:
    assert ask(local, "fd01::7", "webnear", AAAA) == {"fd01::1"}
    assert ask(local, "10.1.0.7", "webnear", AAAA) == {"fd01::1"}
    assert ask(local, "127.0.0.1", "webnear", AAAA) == set()
