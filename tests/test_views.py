from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from discoverd.model import Link, Network, SourceState
from discoverd.views import ELSEWHERE, HOST, Place, View
from tests.build import ENGINE, LAN, NETWORKS, OWN, World, container, ip, network, static
from tests.build import HOST as LOOPBACK

EDGE, SHOP = f"{ENGINE}/edge", f"{ENGINE}/shop_default"


def of(world: World, asker: str, asked: str | None = None) -> View:
    return world.views.of(ip(asker), ip(asked) if asked else None)


@pytest.mark.parametrize("asker", [LOOPBACK, "127.9.9.9", "::1", OWN, f"::ffff:{OWN}", f"::ffff:{LOOPBACK}"])
def test_loopback_and_the_hosts_own_addresses_are_on_the_host(asker: str) -> None:
    assert of(World(), asker) == HOST


@pytest.mark.parametrize("asker", [LAN, "203.0.113.9", "2001:db8::9", "fe80::1"])
def test_other_addresses_are_elsewhere(asker: str) -> None:
    assert of(World(), asker) == ELSEWHERE


def test_a_container_is_known_by_its_address() -> None:
    world = World(container("web", 2, "shop_default", "edge", project="shop", six=True))
    expected = View(Place.NETWORK, frozenset({SHOP, EDGE}), scope="shop")
    for asker in ("10.1.0.2", "10.3.0.2", "fd00:3::2", "::ffff:10.1.0.2"):
        assert of(world, asker) == expected


def test_a_containers_address_tells_more_than_a_host_address_of_discoverds_own_container() -> None:
    """In a container of its own, discoverd is the host only to itself."""
    world = World(container("discoverd", 53, "edge"))
    world.own = frozenset({ip("10.3.0.53")})
    assert of(world, "10.3.0.53") == HOST
    assert of(world, "10.3.0.7").networks == {EDGE}


def test_an_unknown_address_inside_a_container_network_asks_from_that_network() -> None:
    assert of(World(), "10.3.0.99") == View(Place.NETWORK, frozenset({EDGE}))
    assert of(World(), "fd00:3::99") == View(Place.NETWORK, frozenset({EDGE}))


def test_the_smallest_network_around_an_address_counts() -> None:
    world = World()
    large = Network("large", "large", (ip_network("10.0.0.0/8"),))
    small = Network("small", "small", (ip_network("10.3.0.0/24"),))
    world.writer(ENGINE).networks([large, network("edge"), small])
    assert of(world, "10.3.0.99").networks == {"small"}
    assert of(world, "10.3.1.99").networks == {EDGE}
    assert of(world, "10.99.0.1").networks == {"large"}


@pytest.mark.parametrize(
    ("asked", "network_id"),
    [
        (None, EDGE),
        ("10.3.0.53", EDGE),
        ("10.1.0.53", SHOP),
        ("::ffff:10.1.0.53", SHOP),
        ("192.168.7.1", EDGE),
    ],
)
def test_behind_a_gateway_the_network_that_the_packet_came_in_by_counts(
    asked: str | None, network_id: str
) -> None:
    """Docker's proxy and hosts in host mode show the gateway's address."""
    assert of(World(), "10.3.0.1", asked) == View(Place.NETWORK, frozenset({network_id}))


def test_where_a_packet_came_in_tells_nothing_of_askers_that_are_known() -> None:
    world = World(container("web", 2, "edge"))
    assert of(world, "10.3.0.2", "10.1.0.53").networks == {EDGE}
    assert of(world, "10.3.0.99", "10.1.0.53").networks == {EDGE}
    assert of(world, LAN, "10.1.0.53") == ELSEWHERE
    assert of(world, LOOPBACK, "10.1.0.53") == HOST


def test_only_a_gateways_address_hides_askers() -> None:
    world = World(container("web", 2, "edge"))
    hidden = [world.views.hidden(ip(a)) for a in ("10.3.0.1", "::ffff:10.3.0.1", "10.3.0.2", LAN, LOOPBACK)]
    assert hidden == [True, True, False, False, False]


def test_the_gateway_of_a_bridge_is_the_host_where_discoverd_runs_on_it() -> None:
    world = World()
    world.own = frozenset({ip("10.3.0.1")})
    assert of(world, "10.3.0.1") == HOST


def test_the_container_that_started_last_has_the_address() -> None:
    world = World(
        container("a", 2, "edge", "backend", started_at=1.0), container("b", 2, "edge", started_at=2.0)
    )
    assert of(world, "10.3.0.2").networks == {EDGE}
    client = world.views.client(ip("10.3.0.2"))
    assert client is not None
    assert client.id == "b"


def test_an_address_without_a_network_makes_no_container() -> None:
    world = World(static("db", "192.0.2.1"))
    assert of(world, "192.0.2.1") == ELSEWHERE
    assert world.views.client(ip("192.0.2.1")) is None


def test_the_host_is_no_container() -> None:
    world = World(container("web", 2, "edge"))
    world.own = frozenset({ip("10.3.0.2")})
    assert world.views.client(ip("10.3.0.2")) is None
    assert world.views.client(ip(LOOPBACK)) is None


def test_links_are_the_clients_own() -> None:
    link = Link("talkto", "echo")
    world = World(container("web", 2, "edge", links=(link,)), container("db", 3, "edge"))
    assert of(world, "10.3.0.2") == View(Place.NETWORK, frozenset({EDGE}), (link,), ENGINE)
    assert of(world, "10.3.0.3") == View(Place.NETWORK, frozenset({EDGE}))


def test_who_shares_a_network_stack_shares_the_links() -> None:
    """``network_mode: service:web``: both ask from one address. A container's further services too."""
    web = container("web", 2, "edge", links=(Link("talkto", "echo"),))
    sidecar = replace(web, id="sidecar", service="sidecar", links=(), started_at=9.0)
    admin = replace(web, id="admin", service="admin", links=())
    stranger = container("old", 2, "edge", "backend", links=(Link("x", "y"),), started_at=0.0)
    world = World(web, sidecar, admin, stranger)
    assert of(world, "10.3.0.2").links == (Link("talkto", "echo"),)
    world.change(web, ttl=3)
    world.change(admin, ttl=3)
    assert of(world, "10.3.0.2").links == (Link("talkto", "echo"),)


def test_from_networks_without_a_way_out_nothing_is_forwarded() -> None:
    world = World(container("in", 2, "edge"), container("both", 3, "edge", "backend"))
    world.writer(ENGINE).networks(network(name, internal=name == "edge") for name in NETWORKS)
    assert not of(world, "10.3.0.2").recursion
    assert not of(world, "10.3.0.99").recursion
    assert of(world, "10.3.0.3").recursion
    assert of(world, LAN).recursion


def test_networks_that_are_not_known_yet_are_no_bar() -> None:
    world = World(container("web", 2, "edge"))
    world.writer(ENGINE).networks([])
    assert of(world, "10.3.0.2").recursion


def test_views_follow_the_registry() -> None:
    world = World()
    web = container("web", 2, "shop_default", "edge", project="shop")
    world.put(web)
    assert of(world, "10.3.0.2").networks == {SHOP, EDGE}
    world.change(web, addresses=web.addresses[:1], memberships=web.memberships[:1])
    assert of(world, "10.1.0.2").networks == {SHOP}
    assert of(world, "10.3.0.2") == View(Place.NETWORK, frozenset({EDGE})), "the network is still known"
    world.writer(ENGINE).status(SourceState.STALE, "away")
    assert of(world, "10.1.0.2").networks == {SHOP}
