"""Names without a domain, and link aliases: names that depend on who asks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from discoverd.model import Link, State
from discoverd.nameindex import GONE_SECONDS
from discoverd.resolver.explain import TYPES
from discoverd.resolver.outcome import NotOurs
from tests.build import HOST, LAN, World, container, negative, short, static, tcp

WEB = container(
    "web",
    2,
    ("edge", "www", "example.com"),
    project="shop",
    ports=tcp(80),
    tags=("v1",),
    extra_names=("portal", "google.com", "*.org"),
    hostname="front.example",
    own_names=("shop-web-2", "dotted.name"),
)


@pytest.fixture
def world() -> World:
    return World(WEB)


# -- bare names -----------------------------------------------------------------------------------------


OURS = [
    *("web", "www", "portal", "shop-web-2", short("shop-web-2")),
    *("web.shop", "2.web.shop", "www.shop", "web.edge", "www.edge", "shop-web-2.edge"),
    *("all.web", "all.web.shop", "_http._tcp.web", "_tcp.web", "_80._tcp.web.shop", "_9._tcp.web"),
]


@pytest.mark.parametrize("name", OURS)
def test_a_bare_name_is_answered_exactly_as_below_the_domain(world: World, name: str) -> None:
    for wanted, asker in product(TYPES, (HOST, LAN, "10.3.0.99")):
        assert world.ask(name, wanted, asker) == world.ask(f"{name}.docker", wanted, asker)


@pytest.mark.parametrize(
    "name",
    [
        "db",
        "localhost",
        "com",
        "org",
        "shop",  # a name between is nobody's without the domain
        "edge",
        "",
        "all",
        "_tcp",
        "_http._tcp",
        "_services._dns-sd._udp",
    ],
)
def test_other_bare_names_are_forwarded(world: World, name: str) -> None:
    assert isinstance(world.ask(name), NotOurs)


@pytest.mark.parametrize(
    "name",
    [
        "example.com",
        "google.com",
        "www.example.com",
        "x.org",
        "front.example",
        "dotted.name",
        "v1.web",
        "_http._tcp.example.com",
        "_80._tcp.google.com",
        "_tcp.example.com",
        "_http._tcp.x.org",
    ],
)
def test_nobody_takes_over_a_name_of_the_world(world: World, name: str) -> None:
    """An alias, a hostname or a label may say ``example.com``; that is ``example.com.docker`` only."""
    assert isinstance(world.ask(name), NotOurs)
    world.remove(WEB)
    assert isinstance(world.ask(name), NotOurs)


def test_below_the_domain_they_are_answered(world: World) -> None:
    for name in ("example.com", "google.com", "x.org", "front.example"):
        assert world.ips(f"{name}.docker") == ["10.3.0.2"]


def test_bare_names_can_be_turned_off(world: World) -> None:
    world.set(bare_names=False)
    for name in ("web", "web.shop", "_http._tcp.web"):
        assert isinstance(world.ask(name), NotOurs)
    assert world.ips("web.docker") == ["10.3.0.2"]


def test_a_bare_name_is_in_the_first_domain(world: World) -> None:
    world.set(domains=("corp.example", "docker"))
    assert negative(world.ask("web", "AAAA")) == ("NODATA", "corp.example", 5)
    assert world.srv("web")[0][2] == f"{short('shop-web-2')}.corp.example"


# -- links ------------------------------------------------------------------------------------------------

ECHO = container("echo", 7, "edge", name="echo-server", ports=tcp(7), replica=None)
CLIENT = container("client", 8, "edge", links=(Link("talkto", "echo-server"),))
LINKED, OTHER = "10.3.0.8", "10.3.0.9"


@pytest.fixture
def linked() -> World:
    return World(ECHO, CLIENT, container("other", 9, "edge"))


@pytest.mark.parametrize("name", ["talkto", "talkto.docker"])
def test_a_link_alias_is_its_target_for_the_client_that_has_it(linked: World, name: str) -> None:
    assert linked.ips(name, LINKED) == ["10.3.0.7"]
    assert linked.srv(name, LINKED) == [(256, 7, f"{short('echo-server')}.docker")]
    assert linked.srv(f"_7._tcp.{name}", LINKED) == linked.srv(name, LINKED)


@pytest.mark.parametrize("asker", [OTHER, HOST, LAN, "10.3.0.99"])
def test_others_do_not_see_it(linked: World, asker: str) -> None:
    assert negative(linked.ask("talkto.docker", asker=asker))[0] == "NXDOMAIN"
    assert isinstance(linked.ask("talkto", asker=asker), NotOurs)


def test_a_link_goes_before_a_service_of_that_name(linked: World) -> None:
    linked.put(container("talkto", 10, "edge"))
    assert linked.ips("talkto.docker", LINKED) == ["10.3.0.7"]
    assert linked.ips("talkto.docker", OTHER) == ["10.3.0.10"]


def test_a_link_to_what_is_down_gives_way_to_a_service_of_that_name(linked: World) -> None:
    linked.change(ECHO, state=State.STOPPED, addresses=())
    assert negative(linked.ask("talkto.docker", asker=LINKED)) == ("NODATA", "docker", 1)
    linked.put(container("talkto", 10, "edge"))
    assert linked.ips("talkto.docker", LINKED) == ["10.3.0.10"]


@pytest.mark.parametrize("name", ["talkto", "talkto.docker"])
def test_a_link_whose_target_is_removed_is_no_data_and_never_forwarded(linked: World, name: str) -> None:
    linked.remove(ECHO)
    assert negative(linked.ask(name, asker=LINKED)) == ("NODATA", "docker", 1)
    linked.pass_time(GONE_SECONDS)
    assert negative(linked.ask(name, asker=LINKED))[0] == "NODATA"
    linked.put(ECHO)
    assert linked.ips(name, LINKED) == ["10.3.0.7"]


def test_a_link_of_several_replicas_is_all_of_them(linked: World) -> None:
    """Compose writes one entry for each replica that there was: ``links: ["web:talkto"]``."""
    linked.put(container("web", 1, "edge", project="shop"), container("web", 2, "edge", project="shop"))
    linked.change(CLIENT, links=(Link("talkto", "shop-web-1"), Link("talkto", "shop-web-2")))
    assert linked.ips("talkto", LINKED) == ["10.3.0.1", "10.3.0.2"]


def test_a_target_is_a_container_of_the_same_engine(linked: World) -> None:
    linked.put(
        replace(container("echo", 12, "edge", name="echo-server"), source="docker/other", unique="x"),
        container("echo-server", 11, "edge", project="blog"),
    )
    assert linked.ips("talkto", LINKED) == ["10.3.0.7"]


def test_a_link_may_have_dots_since_it_is_nobody_elses(linked: World) -> None:
    linked.change(CLIENT, links=(Link("api.example.com", "echo-server"),))
    assert (
        linked.ips("api.example.com", LINKED) == linked.ips("api.example.com.docker", LINKED) == ["10.3.0.7"]
    )
    assert isinstance(linked.ask("api.example.com", asker=OTHER), NotOurs)


def test_a_static_service_has_no_links_to_follow(linked: World) -> None:
    linked.put(static("talkto", "192.0.2.1"))
    assert linked.ips("talkto", OTHER) == ["192.0.2.1"]
