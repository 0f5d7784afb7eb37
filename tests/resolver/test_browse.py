"""DNS-SD browsing (RFC 6763)."""

from __future__ import annotations

import cProfile

import pytest

from discoverd.model import Health, Port, SourceState, State
from discoverd.nameindex import GONE_SECONDS
from discoverd.resolver import browse
from discoverd.resolver.outcome import Answer, Fail
from tests.build import ENGINE, HOST, World, container, glue, negative, short, static, tcp, texts, ttls

ALL = "_services._dns-sd._udp.docker"
WEB = [container("web", n, "edge", project="shop", ports=tcp(80), meta=(("path", "/"),)) for n in (1, 2)]
DNS = container("dns", 3, "edge", ports=(Port(53, "udp"), Port(9000, name="admin")))


def listed(world: World, name: str, asker: str = HOST) -> set[str]:
    outcome = world.ask(name, "PTR", asker)
    assert isinstance(outcome, Answer), outcome
    assert outcome.depends == (), "it rests on the whole registry and is built anew each time"
    return set(texts(outcome))


def instance(name: str, kind: str) -> str:
    return f"{short(name)}.{kind}.docker"


@pytest.fixture
def world() -> World:
    return World(*WEB, DNS)


@pytest.mark.parametrize("name", ["b", "lb", "db"])
def test_the_domain_to_browse_is_the_domain(world: World, name: str) -> None:
    assert listed(world, f"{name}._dns-sd._udp.docker") == {"docker."}
    world.set(domains=("docker", "corp.example"))
    assert listed(world, f"{name}._dns-sd._udp.corp.example") == {"corp.example."}


def test_all_types_that_are_offered(world: World) -> None:
    assert listed(world, ALL) == {"_http._tcp.docker.", "_domain._udp.docker.", "_admin._tcp.docker."}


def test_a_type_lists_its_instances(world: World) -> None:
    assert listed(world, "_http._tcp.docker") == {
        f"{instance(f'shop-web-{n}', '_http._tcp')}." for n in (1, 2)
    }
    assert listed(world, "_admin._tcp.docker") == {f"{instance('dns', '_admin._tcp')}."}


def test_every_name_listed_has_srv_and_txt(world: World) -> None:
    for kind in listed(world, ALL):
        for name in listed(world, kind.rstrip(".")):
            found = world.srv(name.rstrip("."))
            assert len(found) == 1
            assert glue(world.ask(name.rstrip("."), "SRV")).keys() == {found[0][2]}
            assert len(texts(world.ask(name.rstrip("."), "TXT"))) == 1


def test_an_instance_has_its_port_of_that_type_and_its_metadata(world: World) -> None:
    name = instance("shop-web-1", "_http._tcp")
    assert world.srv(name) == [(256, 80, f"{short('shop-web-1')}.docker")]
    assert texts(world.ask(name, "TXT")) == ['"path=/"']
    assert texts(world.ask(instance("dns", "_admin._tcp"), "TXT")) == ['""'], "never without a TXT record"


def test_port_8080_is_offered_as_http_and_by_its_own_name() -> None:
    world = World(static("web", "192.0.2.1", ports=tcp(8080)))
    assert listed(world, ALL) == {"_http._tcp.docker.", "_http-alt._tcp.docker."}
    assert listed(world, "_http._tcp.docker") == {"web-192-0-2-1._http._tcp.docker."}
    assert [port for _, port, _ in world.srv("web-192-0-2-1._http._tcp.docker")] == [8080]


def test_a_port_without_a_name_is_offered_by_number() -> None:
    assert listed(World(static("x", "192.0.2.1", ports=tcp(12345))), ALL) == {"_12345._tcp.docker."}


@pytest.mark.parametrize("wanted", ["A", "SRV", "TXT", "MX"])
def test_browsing_names_have_pointers_only(world: World, wanted: str) -> None:
    for name in (ALL, "b._dns-sd._udp.docker", "_http._tcp.docker"):
        assert negative(world.ask(name, wanted)) == ("NODATA", "docker", 5)


@pytest.mark.parametrize("name", ["_tcp", "_udp", "_dns-sd._udp"])
def test_what_is_between_exists(world: World, name: str) -> None:
    assert negative(world.ask(f"{name}.docker", "PTR")) == ("NODATA", "docker", 5)


@pytest.mark.parametrize(
    "name",
    [
        "_ssh._tcp",
        "_http._udp",
        "x._dns-sd._udp",
        instance("shop-web-1", "_ssh._tcp").removesuffix(".docker"),
        instance("shop-web-1", "_domain._udp").removesuffix(".docker"),
        "nothing._http._tcp",
        "web._http._tcp",
        "x._sub._http._tcp",
    ],
)
def test_what_nobody_offers_is_no_name(world: World, name: str) -> None:
    for wanted in ("PTR", "SRV", "TXT"):
        assert negative(world.ask(f"{name}.docker", wanted))[0] == "NXDOMAIN"


def test_other_types_at_an_instances_name_are_no_data(world: World) -> None:
    for wanted in ("A", "AAAA", "PTR", "MX"):
        assert negative(world.ask(instance("shop-web-1", "_http._tcp"), wanted))[0] == "NODATA"


# -- who sees what ---------------------------------------------------------------------------------------


def test_only_what_a_lookup_would_give_is_listed() -> None:
    world = World(
        container("web", 1, "edge", name="near", ports=tcp(80)),
        container("web", 2, "backend", name="far", ports=tcp(80)),
        container("web", 3, "edge", name="paused", ports=tcp(80), state=State.PAUSED),
        container("web", 4, "edge", name="unwell", ports=tcp(80), health=Health.UNHEALTHY),
        container("web", 5, "edge", name="once", ports=tcp(80), in_service=False),
        container("web", 6, "edge", name="closed"),
        container("web", 7, "edge", name="web", ports=tcp(80), in_service=False),
    )
    names = {n: f"{instance(n, '_http._tcp')}." for n in ("near", "far")}
    assert listed(world, "_http._tcp.docker") == set(names.values())
    assert listed(world, "_http._tcp.docker", "10.3.0.99") == {names["near"]}
    assert negative(world.ask(instance("once", "_http._tcp"), "SRV"))[0] == "NXDOMAIN"


def test_while_nobody_is_served_the_type_still_exists() -> None:
    world = World(container("web", 1, "edge", ports=tcp(80), state=State.PAUSED))
    assert negative(world.ask("_http._tcp.docker", "PTR"))[0] == "NODATA"
    assert negative(world.ask(instance("web", "_http._tcp"), "SRV")) == ("NODATA", "docker", 1)
    assert negative(world.ask(instance("web", "_http._tcp"), "TXT")) == ("NODATA", "docker", 1)


# -- as instances come and go ------------------------------------------------------------------------------


def test_what_is_offered_follows_the_registry(world: World) -> None:
    world.change(WEB[0], ports=tcp(443))
    assert listed(world, ALL) >= {"_http._tcp.docker.", "_https._tcp.docker."}
    world.change(WEB[1], ports=tcp(443))
    assert "_http._tcp.docker." not in listed(world, ALL)
    world.remove(DNS)
    assert listed(world, ALL) == {"_https._tcp.docker."}


def test_what_was_there_before_the_resolver_is_offered(world: World) -> None:
    assert browse.Offers(world.registry).types() == ["_admin._tcp", "_domain._udp", "_http._tcp"]


def test_what_was_offered_is_not_denied_afterwards(world: World) -> None:
    world.remove(*WEB)
    assert negative(world.ask("_http._tcp.docker", "PTR")) == ("NODATA", "docker", 5)
    name = instance("shop-web-1", "_http._tcp")
    assert negative(world.ask(name, "SRV")) == ("NODATA", "docker", 1)
    world.pass_time(GONE_SECONDS)
    assert negative(world.ask(name, "SRV"))[0] == "NXDOMAIN"


def test_types_that_nobody_offers_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(browse, "TYPES_MOST", 3)
    world = World()
    for port in range(10001, 10006):
        world.put(static("web", "192.0.2.1", ports=tcp(port)))
    assert negative(world.ask("_10001._tcp.docker", "PTR"))[0] == "NXDOMAIN"
    assert negative(world.ask("_10004._tcp.docker", "PTR"))[0] == "NODATA"
    assert listed(world, ALL) == {"_10005._tcp.docker."}


def test_an_answer_is_no_longer_than_a_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "POINTERS_MOST", 5)
    world = World(*(static(f"s{n}", f"192.0.2.{n}", ports=tcp(80, 10000 + n)) for n in range(10)))
    assert len(listed(world, "_http._tcp.docker")) == len(listed(world, ALL)) == 5


def test_a_question_about_the_whole_domain_does_not_look_at_every_instance() -> None:
    def calls(count: int) -> int:
        world = World(*(static("web", f"192.0.{n}.2", ports=tcp(22)) for n in range(count)))
        profile = cProfile.Profile()
        for name in (ALL, "_http._tcp.docker", "x._http._tcp.docker"):
            profile.runcall(world.ask, name, "PTR")
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(200) <= calls(2)


# -- sources that are silent or away ------------------------------------------------------------------------


def test_before_the_first_sync_nothing_is_denied() -> None:
    world = World(*WEB)
    world.registry.writer("docker/other", "docker")
    assert listed(world, "_http._tcp.docker")
    for name in ("_ssh._tcp", "x._http._tcp", "_tcp"):
        assert isinstance(world.ask(f"{name}.docker", "PTR"), Fail)


def test_pointers_live_five_seconds_at_most_while_a_source_is_away(world: World) -> None:
    world.set(ttl=60)
    assert ttls(world.ask(ALL, "PTR")) == {60}
    world.writer(ENGINE).status(SourceState.STALE, "gone")
    assert ttls(world.ask(ALL, "PTR")) == ttls(world.ask("_http._tcp.docker", "PTR")) == {5}
