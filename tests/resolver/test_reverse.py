"""PTR (RFC 1035 section 3.5, RFC 3596 section 2.5)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.model import Network, SourceState, State
from discoverd.resolver.outcome import Answer, Fail, NotOurs
from discoverd.resolver.reverse import address_of, block_of
from tests.build import ENGINE, OWN, World, container, ip, negative, short, static, texts, ttls, unhurried

WEB = container("web", 2, "shop_default", "edge", project="shop", six=True)


def pointer(address: str) -> str:
    return ip(address).reverse_pointer


def names(world: World, address: str) -> list[str]:
    outcome = world.ask(pointer(address), "PTR")
    assert isinstance(outcome, Answer), outcome
    return texts(outcome)


@pytest.fixture
def world() -> World:
    return World(WEB)


@pytest.mark.parametrize("address", ["10.1.0.2", "10.3.0.2", "fd00:1::2", "fd00:3::2"])
def test_the_most_specific_name_comes_first_always(world: World, address: str) -> None:
    outcome = world.ask(pointer(address), "PTR")
    assert texts(outcome) == ["shop-web-2.docker.", "2.web.shop.docker.", "web.shop.docker."]
    assert isinstance(outcome, Answer)
    assert not outcome.rotate
    assert world.ask(pointer(address), "ANY") == outcome


def test_every_name_leads_back_to_the_address(world: World) -> None:
    for name in names(world, "10.1.0.2"):
        assert "10.1.0.2" in world.ips(name.rstrip("."))


def test_names_of_instances_without_a_name_of_their_own() -> None:
    world = World(
        static("db", "192.0.2.1", scope="shop"),
        static("api", "192.0.2.2"),
        static("vip", "192.0.2.3", in_service=False),
    )
    assert names(world, "192.0.2.1") == ["db.shop.docker."]
    assert names(world, "192.0.2.2") == ["api.docker."]
    assert names(world, "192.0.2.3") == ["vip-192-0-2-3.docker."]


def test_a_one_off_is_no_instance_of_its_service() -> None:
    once = container("web", 9, "edge", project="shop", name="shop-web-run-0a", in_service=False)
    assert names(World(once), "10.3.0.9") == ["shop-web-run-0a.docker."]


def test_the_container_that_started_last_comes_first() -> None:
    world = World(container("a", 2, "edge", started_at=1.0), container("b", 2, "edge", started_at=2.0))
    assert names(world, "10.3.0.2") == ["b.docker.", "a.docker."]


def test_names_are_in_the_first_domain(world: World) -> None:
    world.set(domains=("corp.example", "docker"))
    assert names(world, "10.1.0.2")[0] == "shop-web-2.corp.example."


def test_a_name_that_would_be_too_long_is_left_out() -> None:
    domain = ".".join(["d" * 60] * 3)
    world = World(static("web", "192.0.2.1", own_names=(".".join(["x" * 50] * 3),)))
    world.set(domains=(domain,))
    assert names(world, "192.0.2.1") == [f"web.{domain}."]


@pytest.mark.parametrize("wanted", ["A", "TXT", "SRV", "NS"])
def test_other_types_at_an_address_are_no_data(world: World, wanted: str) -> None:
    assert negative(world.ask(pointer("10.1.0.2"), wanted)) == ("NODATA", "1.10.in-addr.arpa", 5)


def test_an_address_that_is_in_no_network_has_itself_for_a_zone() -> None:
    world = World(static("db", "192.0.2.1"))
    assert negative(world.ask(pointer("192.0.2.1"), "TXT")) == ("NODATA", pointer("192.0.2.1"), 5)


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("10.1.0.99", "1.10.in-addr.arpa"),
        ("fd00:3::99", ".".join(reversed("fd00000300000000")) + ".ip6.arpa"),
    ],
)
def test_unknown_addresses_inside_container_networks_are_denied(address: str, zone: str) -> None:
    assert negative(World().ask(pointer(address), "PTR")) == ("NXDOMAIN", zone, 5)


@pytest.mark.parametrize("address", ["192.0.2.9", OWN, "8.8.8.8", "2001:db8::9", "10.99.0.1"])
def test_unknown_addresses_elsewhere_are_forwarded(address: str) -> None:
    assert isinstance(World().ask(pointer(address), "PTR"), NotOurs)


@pytest.mark.parametrize(
    ("subnet", "address", "zone"),
    [
        ("10.40.0.0/16", "10.40.1.2", "40.10.in-addr.arpa"),
        ("10.40.16.0/20", "10.40.17.2", "17.40.10.in-addr.arpa"),
        ("10.40.16.0/28", "10.40.16.2", "16.40.10.in-addr.arpa"),
        ("10.0.0.0/7", "11.1.1.1", "11.in-addr.arpa"),
    ],
)
def test_zones_are_cut_at_whole_octets(subnet: str, address: str, zone: str) -> None:
    world = World()
    world.writer(ENGINE).networks([Network("n", "n", (ip_network(subnet),))])
    assert negative(world.ask(pointer(address), "PTR")) == ("NXDOMAIN", zone, 5)
    assert negative(world.ask(zone, "A")) == ("NODATA", zone, 5)
    assert isinstance(world.ask(zone, "SOA"), Answer)
    assert texts(world.ask(zone, "NS")) == ["ns.docker."]


def test_between_a_zone_and_its_addresses_nothing_is_denied_nor_forwarded(world: World) -> None:
    assert negative(world.ask("0.1.10.in-addr.arpa", "PTR")) == ("NODATA", "1.10.in-addr.arpa", 5)
    assert isinstance(world.ask("10.in-addr.arpa", "SOA"), NotOurs)
    assert isinstance(world.ask("0.2.0.192.in-addr.arpa", "SOA"), NotOurs)
    for name in ("in-addr.arpa", "ip6.arpa", "x.in-addr.arpa", "x.ip6.arpa", "8.in-addr.arpa"):
        assert isinstance(world.ask(name, "NS"), NotOurs)


@pytest.mark.parametrize(
    "name", ["x.2.0.1.10", "300.0.1.10", "02.0.1.10", "x.1.10", "b._dns-sd._udp.0.0.1.10", "-1.0.1.10"]
)
def test_what_is_no_address_inside_a_zone_is_denied(world: World, name: str) -> None:
    assert negative(world.ask(f"{name}.in-addr.arpa", "PTR")) == ("NXDOMAIN", "1.10.in-addr.arpa", 5)


def test_an_address_that_has_gone_is_denied_and_back_when_it_is_back(world: World) -> None:
    world.remove(WEB)
    assert negative(world.ask(pointer("10.1.0.2"), "PTR"))[0] == "NXDOMAIN"
    world.put(WEB)
    assert names(world, "10.1.0.2")


def test_paused_and_draining_containers_keep_their_addresses(world: World) -> None:
    for state in (State.PAUSED, State.DRAINING, State.RESTARTING):
        world.change(WEB, state=state)
        assert names(world, "10.1.0.2")
    world.change(WEB, state=State.STOPPED)
    assert negative(world.ask(pointer("10.1.0.2"), "PTR"))[0] == "NXDOMAIN"


def test_an_instances_own_ttl_counts() -> None:
    world = World(static("db", "192.0.2.1", ttl=77))
    assert ttls(world.ask(pointer("192.0.2.1"), "PTR")) == {77}


# -- before the first sync ----------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["172.18.0.5", "10.9.9.9", "192.168.1.9", "fd00::5", "10.1.0.99"])
def test_addresses_that_may_be_a_containers_fail_while_an_engine_is_silent(address: str) -> None:
    """Forwarded, they would be denied for hours (RFC 6303)."""
    world = World(static("db", "192.0.2.1"))
    world.registry.writer("docker/other", "docker")
    assert isinstance(world.ask(pointer(address), "PTR"), Fail)
    assert names(world, "192.0.2.1") == ["db.docker."]
    world.registry.writer("docker/other", "docker").status(SourceState.LIVE)
    assert not isinstance(world.ask(pointer(address), "PTR"), Fail)


@pytest.mark.parametrize("address", ["8.8.8.8", "127.0.0.1", "169.254.1.1", "::1", "fe80::1", "2606:4700::1"])
def test_other_addresses_are_forwarded_all_the_same(address: str) -> None:
    world = World()
    world.registry.writer("docker/other", "docker")
    assert isinstance(world.ask(pointer(address), "PTR"), NotOurs)


# -- reading names --------------------------------------------------------------------------------------


@unhurried
@given(st.ip_addresses())
def test_an_address_is_read_back_from_its_name(address: object) -> None:
    assert address_of(ip(str(address)).reverse_pointer) == address


@pytest.mark.parametrize(
    "name",
    [
        "1.0.0.127",
        "1.2.3.in-addr.arpa",
        "1.2.3.4.5.in-addr.arpa",
        "1.2.3.256.in-addr.arpa",
        "1.2.3.04.in-addr.arpa",
        "1..3.4.in-addr.arpa",
        "\xb2.2.3.4.in-addr.arpa",
        "1.0.ip6.arpa",
        "g" + ".0" * 31 + ".ip6.arpa",
        "00" + ".0" * 31 + ".ip6.arpa",
        short("x"),
    ],
)
def test_other_names_are_no_addresses(name: str) -> None:
    assert address_of(name) is None


@pytest.mark.parametrize(
    ("name", "block", "exact"),
    [
        ("1.10.in-addr.arpa", "10.1.0.0/16", True),
        ("x.1.10.in-addr.arpa", "10.1.0.0/16", False),
        ("x.in-addr.arpa", "0.0.0.0/0", False),
        ("0.0.d.f.ip6.arpa", "fd00::/16", True),
        ("x.d.f.ip6.arpa", "fd00::/8", False),
        ("9.4.3.2.1.in-addr.arpa", "1.2.3.4/32", False),
    ],
)
def test_a_name_lies_in_a_block_of_addresses(name: str, block: str, exact: bool) -> None:
    assert block_of(name) == (ip_network(block), exact)
