"""Which instances, at which addresses: docs/names.md, "Who gets which instances", sentence by sentence."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from discoverd.model import Address, Health, Instance, Membership, Port, State
from discoverd.nameindex import GONE_SECONDS, Found
from discoverd.resolver.local import Settings
from discoverd.resolver.select import Policy, select
from discoverd.views import HOST as HOST_VIEW
from tests.build import HOST, LAN, World, container, ip, negative, static

SHOP_DB = container("db", 10, "shop_default", project="shop")
BLOG_DB = container("db", 20, "blog_default", project="blog")
#: A client of each project, one of both, one of neither; all in networks of their own as well.
IN_SHOP, IN_BLOG, IN_BOTH, IN_NEITHER = "10.1.0.2", "10.2.0.3", "10.1.0.4", "10.5.0.5"
CLIENTS = (
    container("app", 2, "shop_default", project="shop"),
    container("app", 3, "blog_default", project="blog"),
    container("proxy", 4, "shop_default", "blog_default"),
    container("alone", 5, "lonely"),
)
EMPTY = Settings(policy=Policy(fail_open=False))
STRICT = Settings(policy=Policy(strict=True))


@pytest.fixture
def world() -> World:
    return World(SHOP_DB, BLOG_DB, *CLIENTS)


# -- life and health ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PAUSED, State.RESTARTING, State.STOPPED, State.DRAINING])
def test_only_what_runs_is_served(state: State) -> None:
    world = World(static("web", "192.0.2.1"), static("web", "192.0.2.2", state=state))
    assert world.ips("web.docker") == ["192.0.2.1"]


@pytest.mark.parametrize("state", [State.PAUSED, State.RESTARTING, State.STOPPED])
def test_a_service_that_does_not_run_at_all_is_no_data(state: State) -> None:
    world = World(static("web", "192.0.2.1", state=state))
    assert negative(world.ask("web.docker")) == ("NODATA", "docker", 1)
    assert world.ips("all.web.docker") == []


def served(when_none: str, *health: Health) -> set[int]:
    """The last octets that are answered for instances of these healths."""
    settings = Settings(policy=Policy(fail_open=when_none == "all"))
    instances = [static("web", f"192.0.2.{n}", health=h) for n, h in enumerate(health)]
    return {int(a.rpartition(".")[2]) for a in World(*instances, settings=settings).ips("web.docker")}


@pytest.mark.parametrize("when_none", ["all", "empty"])
@pytest.mark.parametrize("healths", list(product(Health, repeat=2)))
def test_the_healthy_are_served_alone_where_there_are_any(
    when_none: str, healths: tuple[Health, Health]
) -> None:
    healthy = {n for n, health in enumerate(healths) if health is Health.HEALTHY}
    assert served(when_none, *healths) == healthy or not healthy


@pytest.mark.parametrize(
    "healths", [*product([Health.STARTING, Health.UNHEALTHY], repeat=2), (Health.STARTING,)]
)
def test_without_a_healthy_one_all_that_run_are_served_or_none(healths: tuple[Health, ...]) -> None:
    assert served("all", *healths) == set(range(len(healths)))
    assert served("empty", *healths) == set()


def test_health_of_what_does_not_run_counts_for_nothing() -> None:
    """Inspect says "unhealthy" of paused and "healthy" of stopped containers."""
    world = World(
        static("web", "192.0.2.1", state=State.STOPPED),
        static("web", "192.0.2.2", health=Health.UNHEALTHY),
    )
    assert world.ips("web.docker") == ["192.0.2.2"]
    world.set(policy=Policy(fail_open=False))
    assert negative(world.ask("web.docker")) == ("NODATA", "docker", 1)


def test_all_gives_what_runs_whatever_its_health() -> None:
    world = World(
        static("web", "192.0.2.1"),
        static("web", "192.0.2.2", health=Health.UNHEALTHY),
        static("web", "192.0.2.3", health=Health.STARTING),
        static("web", "192.0.2.4", state=State.PAUSED),
        settings=EMPTY,
    )
    assert world.ips("web.docker") == ["192.0.2.1"]
    assert world.ips("all.web.docker") == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


# -- drain ----------------------------------------------------------------------------------------


def test_a_draining_instance_leaves_unless_it_is_the_last() -> None:
    one, other = static("web", "192.0.2.1"), static("web", "192.0.2.2")
    world = World(one, other)
    one = world.change(one, state=State.DRAINING)
    assert world.ips("web.docker") == ["192.0.2.2"]
    other = world.change(other, state=State.DRAINING)
    assert world.ips("web.docker") == ["192.0.2.1", "192.0.2.2"]
    world.change(other, state=State.STOPPED)
    assert world.ips("web.docker") == ["192.0.2.1"]


def test_it_is_not_the_last_while_an_unwell_one_runs() -> None:
    world = World(
        static("web", "192.0.2.1", state=State.DRAINING),
        static("web", "192.0.2.2", health=Health.STARTING),
    )
    assert world.ips("web.docker") == ["192.0.2.2"]


def test_a_draining_instance_answers_to_names_that_are_its_own() -> None:
    world = World(
        container("web", 1, "edge", project="shop", state=State.DRAINING),
        container("web", 2, "edge", project="shop"),
    )
    assert world.ips("web.docker") == ["10.3.0.2"]
    assert world.ips("shop-web-1.docker") == ["10.3.0.1"]


def test_the_last_of_ones_own_project_is_the_last_for_its_clients(world: World) -> None:
    world.change(SHOP_DB, state=State.DRAINING)
    assert world.ips("db.docker", IN_SHOP) == ["10.1.0.10"]
    assert world.ips("db.docker", HOST) == ["10.2.0.20"]


def test_a_draining_one_nearby_is_the_last_that_can_be_reached() -> None:
    near = container("web", 1, "edge", project="shop", state=State.DRAINING)
    world = World(near, container("web", 2, "backend", project="shop"))
    assert world.ips("web.docker", "10.3.0.99") == ["10.3.0.1"]
    assert world.ips("web.docker", HOST) == ["10.4.0.2"]


# -- inside a network -------------------------------------------------------------------------------


def test_two_projects_never_mix_for_their_own_containers(world: World) -> None:
    assert world.ips("db.docker", IN_SHOP) == ["10.1.0.10"]
    assert world.ips("db.docker", IN_BLOG) == ["10.2.0.20"]


def test_who_is_on_both_networks_gets_both(world: World) -> None:
    assert sorted(world.ips("db.docker", IN_BOTH)) == ["10.1.0.10", "10.2.0.20"]


def test_who_is_on_neither_network_gets_all(world: World) -> None:
    assert sorted(world.ips("db.docker", IN_NEITHER)) == ["10.1.0.10", "10.2.0.20"]


@pytest.mark.parametrize("asker", [HOST, LAN])
def test_who_is_in_no_network_gets_all(world: World, asker: str) -> None:
    assert sorted(world.ips("db.docker", asker)) == ["10.1.0.10", "10.2.0.20"]


def test_another_projects_service_is_found_by_its_scope(world: World) -> None:
    assert world.ips("db.blog.docker", IN_SHOP) == ["10.2.0.20"]


@pytest.mark.parametrize("state", [State.STOPPED, State.PAUSED, State.RESTARTING])
def test_while_ones_own_is_down_one_gets_nobody_elses(world: World, state: State) -> None:
    world.change(SHOP_DB, state=state, addresses=())
    assert negative(world.ask("db.docker", asker=IN_SHOP)) == ("NODATA", "docker", 1)
    assert world.ips("db.docker", IN_BLOG) == ["10.2.0.20"]


def test_nor_when_it_was_just_removed_with_its_project(world: World) -> None:
    world.remove(SHOP_DB)
    unknown = "10.1.0.77"
    for asker in (IN_SHOP, unknown):
        assert negative(world.ask("db.docker", asker=asker)) == ("NODATA", "docker", 1)
    world.pass_time(GONE_SECONDS)
    assert world.ips("db.docker", unknown) == ["10.2.0.20"]


def test_nor_when_it_is_on_a_network_that_one_is_not_on(world: World) -> None:
    """``app`` in front, ``db`` behind: an unreachable database is better than another project's."""
    behind = world.change(
        SHOP_DB,
        addresses=(Address(ip("10.4.0.10"), "backend", "docker/test/backend"),),
        memberships=container("db", 10, "backend").memberships,
    )
    assert world.ips("db.docker", IN_SHOP) == ["10.4.0.10"]
    world.remove(behind)
    assert world.ips("db.docker", IN_SHOP) == []
    assert sorted(world.ips("db.docker", IN_NEITHER)) == ["10.2.0.20"]


def test_a_stopped_one_nearby_gives_way_to_its_own_siblings_elsewhere() -> None:
    near = container("web", 1, "edge", project="shop", state=State.STOPPED)
    far = container("web", 2, "backend", project="shop")
    foreign = container("web", 3, "lonely", project="blog")
    assert World(near, far, foreign).ips("web.docker", "10.3.0.99") == ["10.4.0.2"]


def test_an_unwell_one_nearby_goes_before_a_healthy_one_elsewhere() -> None:
    near = container("web", 1, "edge", health=Health.UNHEALTHY)
    world = World(near, container("web", 2, "backend", name="other"))
    assert world.ips("web.docker", "10.3.0.99") == ["10.3.0.1"]
    world.set(policy=Policy(fail_open=False))
    assert world.ips("web.docker", "10.3.0.99") == []


def test_each_comes_with_its_address_on_a_shared_network() -> None:
    world = World(
        container("web", 1, "shop_default", "edge", project="shop"),
        container("web", 2, "edge", "backend", project="shop"),
    )
    assert world.ips("web.docker", "10.3.0.99") == ["10.3.0.1", "10.3.0.2"]
    assert world.ips("web.docker", "10.1.0.99") == ["10.1.0.1"]
    assert world.ips("web.docker", "10.4.0.99") == ["10.4.0.2"]
    assert world.ips("web.docker") == ["10.1.0.1", "10.3.0.2"]


def test_on_several_shared_networks_the_preferred_one_counts() -> None:
    client = container("c", 9, "edge", "shop_default")
    world = World(container("web", 1, "shop_default", "edge"), client)
    for asker in ("10.1.0.9", "10.3.0.9"):
        assert world.ips("web.docker", asker) == ["10.1.0.1"]


def test_a_family_that_the_preferred_network_lacks_comes_from_another_one() -> None:
    six = Address(ip("fd00:3::1"), "edge", "docker/test/edge")
    web = container("web", 1, "shop_default", "edge")
    web = replace(web, addresses=(web.addresses[0], six))
    world = World(web, container("c", 9, "edge", "shop_default"))
    for asker in (HOST, "10.1.0.9"):
        assert world.ips("web.docker", asker) == ["10.1.0.1"]
        assert world.ips("web.docker", asker, "AAAA") == ["fd00:3::1"]
    assert world.ips("web.docker", "10.1.0.99", "AAAA") == [], "it is not on that network"


def test_services_in_no_network_are_served_where_nothing_is_near() -> None:
    world = World(static("db", "192.0.2.1"), SHOP_DB)
    assert world.ips("db.docker", IN_SHOP) == ["10.1.0.10"]
    assert world.ips("db.docker", IN_NEITHER) == ["192.0.2.1", "10.1.0.10"]


# -- strict --------------------------------------------------------------------------------------


def test_strict_gives_nothing_of_other_networks(world: World) -> None:
    world.set(policy=Policy(strict=True))
    assert world.ips("db.docker", IN_SHOP) == ["10.1.0.10"]
    assert negative(world.ask("db.docker", asker=IN_NEITHER)) == ("NODATA", "docker", 1)
    assert world.ips("db.blog.docker", IN_SHOP) == []
    assert len(world.ips("db.docker", HOST)) == len(world.ips("db.docker", LAN)) == 2


def test_strict_leaves_what_is_in_no_network_at_all() -> None:
    world = World(static("db", "192.0.2.1"), SHOP_DB, settings=STRICT)
    assert world.ips("db.docker", IN_NEITHER) == ["192.0.2.1"]
    assert world.ips("db.docker", IN_SHOP) == ["10.1.0.10"]


# -- names on a network --------------------------------------------------------------------------


def test_a_network_by_name_gives_those_on_it_at_their_addresses_there() -> None:
    world = World(
        container("web", 1, "shop_default", "edge", project="shop"),
        container("web", 2, "shop_default", project="shop"),
        container("web", 3, "blog_default", "edge", project="blog"),
        container("app", 9, "shop_default", project="shop"),
    )
    for asker in (HOST, LAN, "10.1.0.9", "10.3.0.99", "10.5.0.99"):
        assert sorted(world.ips("web.edge.docker", asker)) == ["10.3.0.1", "10.3.0.3"], asker
    assert world.ips("shop-web-1.edge.docker") == ["10.3.0.1"]
    assert world.ips("web.shop_default.docker", "10.3.0.99") == ["10.1.0.1", "10.1.0.2"]


def test_a_network_by_name_is_strict_too() -> None:
    world = World(container("web", 1, "shop_default", "edge"), settings=STRICT)
    assert world.ips("web.edge.docker", "10.3.0.99") == ["10.3.0.1"]
    assert world.ips("web.edge.docker", "10.1.0.99") == []


# -- beyond the host -----------------------------------------------------------------------------

AT = ip("192.168.7.1")


def published(*ports: Port) -> World:
    return World(container("web", 1, "edge", ports=ports, host_address=AT))


def test_elsewhere_is_as_on_the_host_without_a_host_address() -> None:
    world = World(container("web", 1, "edge", ports=(Port(80, published=8080),)))
    assert world.ips("web.docker", LAN) == world.ips("web.docker", HOST) == ["10.3.0.1"]


def test_elsewhere_published_ports_are_found_at_the_hosts_address() -> None:
    world = published(Port(80, published=8080))
    assert world.ips("web.docker", LAN) == [str(AT)]
    assert world.ips("web.docker", LAN, "AAAA") == []
    assert world.ips("web.docker", HOST) == world.ips("web.docker", "10.3.0.99") == ["10.3.0.1"]


@pytest.mark.parametrize("ports", [(), (Port(80),), (Port(80, published=8080, published_beyond_host=False),)])
def test_elsewhere_what_is_not_published_is_not_served(ports: tuple[Port, ...]) -> None:
    """Nor what is published on a loopback address of the host only."""
    world = published(*ports)
    assert negative(world.ask("web.docker", asker=LAN)) == ("NODATA", "docker", 1)
    assert world.ips("web.docker", HOST) == ["10.3.0.1"]


def test_elsewhere_several_instances_on_one_host_are_one_address() -> None:
    ports = (Port(80, published=8080),)
    world = World(*(container("web", n, "edge", name=f"w{n}", ports=ports, host_address=AT) for n in (1, 2)))
    assert world.ips("web.docker", LAN) == [str(AT)]


def test_elsewhere_only_the_engine_with_a_host_address_differs() -> None:
    other = container("web", 2, "edge", name="other", source="docker/other", ports=(Port(80, published=81),))
    world = World(container("web", 1, "edge", ports=(Port(80, published=80),), host_address=AT), other)
    assert sorted(world.ips("web.docker", LAN)) == ["10.3.0.2", str(AT)]


# -- why not -------------------------------------------------------------------------------------


def test_it_is_said_of_every_instance_why_it_is_left_out() -> None:
    world = World(
        container("web", 1, "edge", name="served"),
        container("web", 2, "edge", name="paused", state=State.PAUSED),
        container("web", 3, "edge", name="unwell", health=Health.UNHEALTHY),
        container("web", 4, "backend", name="far"),
        container("web", 5, "edge", name="nowhere", addresses=()),
    )
    found = world.registry.names.find("web")
    view = world.views.of(ip("10.3.0.99"))
    selection = select(found, view, Policy())
    assert [c.instance.id for c in selection.chosen] == ["served"]
    assert {i.id: why for i, why in selection.left_out} == {
        "paused": "it is paused",
        "unwell": "it is unhealthy",
        "far": "it shares no network with the asker, and others do",
        "nowhere": "it has no address",
    }


def test_it_is_said_which_setting_leaves_an_instance_out() -> None:
    world = World(container("web", 1, "edge", health=Health.STARTING), settings=EMPTY)
    found = world.registry.names.find("web")
    near = select(found, world.views.of(ip("10.3.0.99")), EMPTY.policy)
    far = select(found, world.views.of(ip("10.5.0.99")), STRICT.policy)
    assert near.left_out[0][1] == "it is starting, and health.when_none is empty"
    assert far.left_out[0][1] == "it shares no network with the asker, and scope is strict"


def test_nothing_found_is_nothing_chosen() -> None:
    assert select(Found((), exists=False, depends=()), HOST_VIEW, Policy()).chosen == ()


# -- networks by the name that a project's file gives them ---------------------------------------


def on_short(scope: str, last: int, net: str) -> Instance:
    made = container("web", last, net, project=scope)
    return replace(made, memberships=tuple(replace(m, short="inner") for m in made.memberships))


def test_a_short_network_name_means_the_askers_own_project() -> None:
    shop, blog = on_short("shop", 10, "backend"), on_short("blog", 20, "lonely")
    world = World(shop, blog, *CLIENTS)
    assert sorted(world.ips("web.inner.docker")) == ["10.4.0.10", "10.5.0.20"]
    for asker, own in ((IN_SHOP, "10.4.0.10"), (IN_BLOG, "10.5.0.20")):
        assert world.ips("web.inner.docker", asker=asker) == [own], asker
    assert world.ips("web.inner", asker=IN_SHOP) == ["10.4.0.10"], "and so without the domain"
    # on the network itself it is that network's
    assert world.ips("web.inner.docker", asker=IN_NEITHER) == ["10.5.0.20"]


def test_a_network_that_is_really_called_so_goes_first() -> None:
    world = World(on_short("shop", 10, "backend"), container("web", 30, "edge"))
    world.put(
        replace(container("web", 31, "edge"), id="x", memberships=(Membership("inner", "docker/test/edge"),))
    )
    assert world.ips("web.inner.docker") == ["10.3.0.31"]
