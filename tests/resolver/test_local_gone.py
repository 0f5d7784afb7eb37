"""No answer that poisons a cache: names that were somebody's, and sources that have not spoken yet."""

from __future__ import annotations

import pytest

from discoverd.model import SourceState, State
from discoverd.nameindex import GONE_SECONDS
from discoverd.resolver.outcome import Answer, Fail, NotOurs, NxDomain
from tests.build import ENGINE, World, container, negative, short, static, tcp, texts

WEB = container("web", 1, ("edge", "www"), project="shop", hostname="front", ports=tcp(80), tags=("v1",))
NAMES = [
    "web",
    "web.shop",
    "1.web.shop",
    "shop-web-1",
    "www",
    "www.shop",
    "web.edge",
    "www.edge",
    "front",
    short("shop-web-1"),
    "v1.web",
    "all.web",
    "all.web.shop",
    "_http._tcp.web",
    "_80._tcp.web.shop",
    f"{short('shop-web-1')}._http._tcp",
]


# -- names that were somebody's -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wanted", ["A", "AAAA", "SRV", "TXT", "MX"])
def test_a_service_without_instances_is_no_data_for_a_second(name: str, wanted: str) -> None:
    world = World(WEB)
    world.remove(WEB)
    assert negative(world.ask(f"{name}.docker", wanted)) == ("NODATA", "docker", 1)


@pytest.mark.parametrize("name", NAMES)
def test_after_minutes_it_is_no_name_any_more(name: str) -> None:
    world = World(WEB)
    world.remove(WEB)
    world.pass_time(GONE_SECONDS - 0.1)
    assert negative(world.ask(f"{name}.docker"))[0] == "NODATA"
    world.pass_time(0.2)
    assert negative(world.ask(f"{name}.docker"))[0] == "NXDOMAIN"


@pytest.mark.parametrize("name", ["shop", "edge"])
def test_nor_is_what_was_between_denied(name: str) -> None:
    """RFC 8020: a cache that is told NXDOMAIN of ``shop`` asks for ``web.shop`` no more."""
    world = World(WEB)
    world.remove(WEB)
    assert negative(world.ask(f"{name}.docker")) == ("NODATA", "docker", 5)
    world.pass_time(GONE_SECONDS)
    assert negative(world.ask(f"{name}.docker"))[0] == "NXDOMAIN"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"v1.web", NAMES[-1]}])
def test_what_is_gone_is_never_forwarded(name: str) -> None:
    """Without the domain as well: the name is ours for as long as it is remembered."""
    world = World(WEB)
    wanted = "SRV" if name.startswith("_") else "A"
    assert isinstance(world.ask(name, wanted), Answer)
    world.remove(WEB)
    assert negative(world.ask(name, wanted)) == ("NODATA", "docker", 1)
    world.pass_time(GONE_SECONDS)
    assert isinstance(world.ask(name, wanted), NotOurs)


def test_a_container_that_is_renamed_leaves_its_old_name_without_data() -> None:
    world = World(WEB)
    world.change(WEB, own_names=("renamed",))
    assert world.ips("renamed.docker") == ["10.3.0.1"]
    assert negative(world.ask("shop-web-1.docker")) == ("NODATA", "docker", 1)


def test_a_container_that_leaves_a_network_leaves_its_names_there_without_data() -> None:
    world = World(WEB)
    world.change(WEB, memberships=(), addresses=())
    for name in ("www.docker", "web.edge.docker", "www.shop.docker", "web.docker"):
        assert negative(world.ask(name)) == ("NODATA", "docker", 1)


def test_what_comes_back_is_answered_at_once() -> None:
    world = World(WEB)
    world.remove(WEB)
    world.put(WEB)
    assert world.ips("web.docker") == ["10.3.0.1"]


def test_stopped_instances_are_no_data_for_as_long_as_they_are_there() -> None:
    world = World(container("web", 1, "edge", state=State.STOPPED, addresses=()))
    world.pass_time(10 * GONE_SECONDS)
    assert negative(world.ask("web.docker")) == ("NODATA", "docker", 1)
    assert negative(world.ask("web")) == ("NODATA", "docker", 1)


def test_the_second_is_no_longer_than_what_is_configured() -> None:
    world = World(WEB)
    world.remove(WEB)
    world.set(negative_ttl=0)
    assert negative(world.ask("web.docker")) == ("NODATA", "docker", 0)
    world.set(negative_ttl=300)
    assert negative(world.ask("web.docker")) == ("NODATA", "docker", 1)


def test_a_wildcard_takes_over_what_is_gone() -> None:
    special = static("special", "192.0.2.2", extra_names=("b.pages.shop",))
    world = World(static("pages", "192.0.2.1", extra_names=("*.pages.shop",)), special)
    world.remove(special)
    assert world.ips("b.pages.shop.docker") == ["192.0.2.1"]


def test_a_port_that_nobody_had_is_denied_while_somebody_is_there() -> None:
    world = World(WEB)
    assert negative(world.ask("_9._tcp.web.docker", "SRV"))[0] == "NXDOMAIN"
    world.remove(WEB)
    assert negative(world.ask("_9._tcp.web.docker", "SRV"))[0] == "NODATA", "which ports it had is not known"


# -- before the first sync ------------------------------------------------------------------------------


@pytest.fixture
def early() -> World:
    """A static source that has spoken and an engine that has not."""
    world = World(static("web", "192.0.2.1", ports=tcp(80), extra_names=("*.pages",)))
    world.registry.set_networks(ENGINE, ())
    world.registry.writer(ENGINE, "docker")
    return world


@pytest.mark.parametrize(
    "name",
    [
        "db",
        "db.shop",
        "all.db",
        "_http._tcp.db",
        "_tcp.db",
        "abc._http._tcp",
        "_ssh._tcp",
        "x.web",
        "tcp",
    ],
)
def test_unknown_names_fail_while_a_source_that_may_know_them_is_silent(early: World, name: str) -> None:
    outcome = early.ask(f"{name}.docker")
    assert isinstance(outcome, Fail)
    assert ENGINE in outcome.reason
    early.registry.writer(ENGINE, "docker").status(SourceState.LIVE)
    assert isinstance(early.ask(f"{name}.docker"), NxDomain)


def test_what_is_known_is_answered_at_once(early: World) -> None:
    assert early.ips("web.docker") == early.ips("x.pages.docker") == early.ips("web") == ["192.0.2.1"]
    assert len(early.srv("_http._tcp.web.docker")) == 1
    assert negative(early.ask("web.docker", "AAAA"))[0] == "NODATA"
    assert negative(early.ask("_9._tcp.web.docker", "SRV"))[0] == "NXDOMAIN"
    assert texts(early.ask("docker", "NS")) == ["ns.docker."]
    assert texts(early.ask("ns.docker", asked="192.168.7.1")) == ["192.168.7.1"]
    assert texts(early.ask("b._dns-sd._udp.docker", "PTR")) == ["docker."]


@pytest.mark.parametrize("name", ["example.com", "web.shop", "_ldap._tcp.example.com"])
def test_dotted_names_without_the_domain_are_forwarded_all_the_same(early: World, name: str) -> None:
    assert isinstance(early.ask(name), NotOurs)


@pytest.mark.parametrize("name", ["db", "_http._tcp.db"])
def test_bare_names_that_may_be_ours_fail(early: World, name: str) -> None:
    assert isinstance(early.ask(name), Fail)


def test_a_source_that_is_away_later_knows_what_it_knew() -> None:
    """Stale is not silent: what it did not hold when it was last heard does not exist."""
    world = World(WEB)
    world.writer(ENGINE).status(SourceState.STALE, "gone")
    assert negative(world.ask("db.docker"))[0] == "NXDOMAIN"
    assert world.ips("web.docker") == ["10.3.0.1"]
