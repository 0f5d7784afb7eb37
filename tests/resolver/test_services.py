"""SRV: docs/names.md, "SRV", sentence by sentence (RFC 2782)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.model import Health, Instance, Port, State
from discoverd.resolver.services import MAX_WEIGHT, matching, named, weight_scale
from tests.build import HOST, LAN, World, container, glue, ip, negative, short, static, tcp, texts, unhurried


def haproxy(weight: int) -> int:
    """What HAProxy makes of an SRV weight."""
    return (weight + 255) // 256


def target(name: str) -> str:
    return f"{short(name)}.docker"


WEB = [container("web", n, "edge", project="shop", ports=tcp(80, 9000)) for n in (1, 2)]


@pytest.fixture
def world() -> World:
    return World(*WEB)


# -- at a service's name ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "web.shop", "all.web"])
def test_one_record_for_each_port_and_instance(world: World, name: str) -> None:
    assert world.srv(f"{name}.docker") == [
        (256, port, target(f"shop-web-{n}")) for n in (1, 2) for port in (80, 9000)
    ]


def test_at_every_other_name_as_well(world: World) -> None:
    for name in ("1.web.shop", "shop-web-1", short("shop-web-1")):
        assert world.srv(f"{name}.docker") == [(256, port, target("shop-web-1")) for port in (80, 9000)]


@pytest.mark.parametrize("asker", [HOST, "10.3.0.99", "10.5.0.99", LAN])
def test_every_target_resolves_to_what_goes_along_with_it(asker: str) -> None:
    web = container("web", 1, "shop_default", "edge", project="shop", ports=tcp(80), six=True)
    world = World(web, static("web", "192.0.2.1", ports=tcp(80)))
    for name in ("web", "web.edge", "all.web", "shop-web-1.shop_default"):
        outcome = world.ask(f"{name}.docker", "SRV", asker)
        targets = {owner for *_, owner in world.srv(f"{name}.docker", asker)}
        assert glue(outcome).keys() == targets
        for owner, addresses in glue(outcome).items():
            assert {*world.ips(owner, asker), *world.ips(owner, asker, "AAAA")} == addresses, name


def test_targets_are_in_one_letter_case(world: World) -> None:
    assert all(owner == owner.lower() for *_, owner in world.srv("web.docker"))


def test_targets_are_nobody_elses() -> None:
    """Not the container's name: two engines may have one each."""
    ids = ("1" * 12, "2" * 12)
    twins = [container("web", 1, "edge", unique=i, id=i, source=f"docker/{i}", ports=tcp(80)) for i in ids]
    world = World(*twins)
    assert {owner for *_, owner in world.srv("web.docker")} == {f"{i}.docker" for i in ids}


def test_only_who_is_served_has_records() -> None:
    world = World(
        WEB[0],
        container("web", 3, "edge", project="shop", ports=tcp(80), state=State.PAUSED),
        container("web", 4, "edge", project="shop", ports=tcp(80), health=Health.UNHEALTHY),
    )
    assert {owner for *_, owner in world.srv("web.docker")} == {target("shop-web-1")}


def test_without_ports_there_is_no_data() -> None:
    world = World(container("web", 1, "edge"))
    assert negative(world.ask("web.docker", "SRV")) == ("NODATA", "docker", 5)


def test_a_port_of_both_protocols_is_one_record() -> None:
    world = World(static("dns", "192.0.2.1", ports=(Port(53), Port(53, "udp"))))
    assert len(world.srv("dns.docker")) == 1


def test_one_instance_under_two_objects_is_one_record() -> None:
    world = World()
    writer = world.writer("static")
    for key in ("a", "b"):
        writer.publish(key, [static("web", "192.0.2.1", ports=tcp(80))])
    outcome = world.ask("web.docker", "SRV")
    assert len(world.srv("web.docker")) == 1
    assert len(getattr(outcome, "extra", ())) == 1


# -- by port --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("_80._tcp.web", [80]),
        ("_9000._tcp.web.shop", [9000]),
        ("_http._tcp.web", [80]),
        ("_http._tcp.all.web", [80]),
        ("_80._tcp.1.web.shop", [80]),
    ],
)
def test_by_number_and_by_iana_name(world: World, name: str, ports: list[int]) -> None:
    found = world.srv(f"{name}.docker")
    assert sorted({port for _, port, _ in found}) == ports
    assert len(found) == (1 if "1.web" in name else 2)


@pytest.mark.parametrize(
    "name",
    [
        "_81._tcp.web",
        "_80._udp.web",
        "_https._tcp.web",
        "_nothing._tcp.web",
        "_080._tcp.web",
        "_._tcp.web",
        "_udp.web",
        "_80._tcp.nothing",
        "_80._sctp.web",
        "80._tcp.web",
        "_x._80._tcp.web",
    ],
)
@pytest.mark.parametrize("wanted", ["SRV", "A", "ANY"])
def test_a_port_that_nobody_has_is_no_name(world: World, name: str, wanted: str) -> None:
    assert negative(world.ask(f"{name}.docker", wanted)) == ("NXDOMAIN", "docker", 5)


@pytest.mark.parametrize("wanted", ["SRV", "A", "ANY", "TXT"])
def test_what_is_between_a_service_and_its_ports_exists(world: World, wanted: str) -> None:
    assert negative(world.ask("_tcp.web.docker", wanted)) == ("NODATA", "docker", 5)


@pytest.mark.parametrize("wanted", ["A", "AAAA", "TXT", "MX"])
def test_names_by_port_have_no_other_data(world: World, wanted: str) -> None:
    assert negative(world.ask("_http._tcp.web.docker", wanted)) == ("NODATA", "docker", 5)
    assert texts(world.ask("_http._tcp.web.docker", "ANY")) == ['"RFC8482" ""']


def test_by_port_while_nobody_is_served_there_is_no_data() -> None:
    world = World(container("web", 1, "edge", ports=tcp(80), state=State.PAUSED))
    assert negative(world.ask("_http._tcp.web.docker", "SRV")) == ("NODATA", "docker", 1)


def test_by_udp() -> None:
    world = World(static("dns", "192.0.2.1", ports=(Port(53, "udp"), Port(80))))
    assert [port for _, port, _ in world.srv("_domain._udp.dns.docker")] == [53]
    assert negative(world.ask("_domain._tcp.dns.docker", "SRV"))[0] == "NXDOMAIN"
    assert negative(world.ask("_udp.dns.docker", "SRV"))[0] == "NODATA"


def test_below_a_wildcard() -> None:
    world = World(static("pages", "192.0.2.1", extra_names=("*.pages",), ports=tcp(80)))
    assert [port for _, port, _ in world.srv("_http._tcp.x.pages.docker")] == [80]


NAMED = tcp(("ui", 80), ("http", 8081), ("admin", 8080))


@pytest.mark.parametrize(
    ("ports", "wanted", "numbers"),
    [
        (NAMED, "ui", [80]),
        (NAMED, "admin", [8080]),
        (NAMED, "http", [8081]),  # what was given that name, and nothing else
        (NAMED, "80", [80]),
        (
            tcp(("ui", 80), ("admin", 8080)),
            "http",
            [80],
        ),  # a given name takes the IANA name away from 8080 only
        (tcp(80, 8080, 8008, 9000), "http", [80, 8080, 8008]),
        (tcp(8080), "http", [8080]),
        (tcp(8080), "http-alt", [8080]),
        (tcp(("8080", 80), 8080), "8080", [8080]),  # a number is a number
        ((Port(80, published=8080), Port(8080)), "8080", [8080]),
        ((Port(80, published=8080),), "8080", [80]),
        ((Port(80, published=8080),), "80", [80]),
        ((Port(80), Port(443)), "https", [443]),
    ],
)
def test_the_ports_that_a_name_means(ports: tuple[Port, ...], wanted: str, numbers: list[int]) -> None:
    assert [port.port for port in matching(ports, "tcp", wanted)] == numbers
    assert matching(ports, "udp", wanted) == ()


def test_a_port_may_be_meant() -> None:
    assert named(Port(80), None)
    assert named(Port(80), "http")
    assert named(Port(80), "80")
    assert named(Port(80, name="ui"), "ui")
    assert not named(Port(80), "https")
    assert not named(Port(80), "8080")


def test_every_instance_may_name_its_ports_otherwise() -> None:
    world = World(
        static("web", "192.0.2.1", ports=tcp(("http", 8081), 80)),
        static("web", "192.0.2.2", ports=tcp(80, 9000)),
    )
    assert {(port, owner) for _, port, owner in world.srv("_http._tcp.web.docker")} == {
        (8081, "web-192-0-2-1.docker"),
        (80, "web-192-0-2-2.docker"),
    }


# -- beyond the host -------------------------------------------------------------------------------------

AT = ip("192.168.7.1")


def outside(*ports: Port) -> World:
    return World(
        *(
            container("web", n, "edge", name=f"w{n}", host_address=AT, ports=ports if n == 1 else ())
            for n in (1, 2)
        )
    )


def test_elsewhere_the_published_port_is_given() -> None:
    world = outside(
        Port(80, published=8080), Port(443), Port(22, published=2222, published_beyond_host=False)
    )
    assert world.srv("web.docker", LAN) == [(256, 8080, target("w1"))]
    assert world.srv("_http._tcp.web.docker", LAN) == world.srv("_80._tcp.web.docker", LAN)
    assert world.srv("_8080._tcp.web.docker", LAN) == [(256, 8080, target("w1"))]
    assert glue(world.ask("web.docker", "SRV", LAN)) == {target("w1"): {str(AT)}}
    assert world.ips(target("w1"), LAN) == [str(AT)]
    assert sorted(port for _, port, _ in world.srv("web.docker", HOST)) == [22, 80, 443]


def test_elsewhere_a_port_that_is_not_published_is_no_data() -> None:
    world = outside(Port(80, published=8080), Port(443))
    assert negative(world.ask("_443._tcp.web.docker", "SRV", LAN))[0] == "NODATA"


# -- weights ---------------------------------------------------------------------------------------------


def weights(*given_weights: int) -> list[int]:
    world = World(
        *(static("web", f"192.0.2.{n}", weight=w, ports=tcp(80)) for n, w in enumerate(given_weights))
    )
    return [weight for weight, *_ in world.srv("web.docker")]


@pytest.mark.parametrize("given_weights", [(1, 1), (1, 3), (255, 1), (0, 2), (10, 20, 30), (0,), (0, 0)])
def test_haproxy_gets_back_the_weights_that_were_given(given_weights: tuple[int, ...]) -> None:
    assert [haproxy(w) for w in weights(*given_weights)] == list(given_weights)


@pytest.mark.parametrize("given_weights", [(1000, 500, 250), (65535, 32768), (300, 100), (65535,)])
def test_large_weights_keep_their_proportions(given_weights: tuple[int, ...]) -> None:
    made, most = [haproxy(w) for w in weights(*given_weights)], max(given_weights)
    assert max(made) == 256
    for was, now in zip(given_weights, made, strict=True):
        assert abs(now / 256 - was / most) < 0.01


@unhurried
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=8))
def test_weights_are_always_fit(given_weights: list[int]) -> None:
    made = [round(w * weight_scale(given_weights)) for w in given_weights]
    assert all(0 <= w <= MAX_WEIGHT for w in made)
    assert [w == 0 for w in made] == [w == 0 for w in given_weights], "nobody is switched off by scaling"
    ordered = sorted(zip(given_weights, made, strict=True))
    assert [w for _, w in ordered] == sorted(made)


def test_scaling_looks_at_who_is_served_only() -> None:
    world = World(
        static("web", "192.0.2.1", weight=1, ports=tcp(80)),
        static("web", "192.0.2.2", weight=65535, ports=tcp(80), state=State.STOPPED),
    )
    assert [w for w, *_ in world.srv("web.docker")] == [256]


def test_an_instance_without_a_label_of_its_own_has_no_target() -> None:
    nameless: Instance = static("web", "192.0.2.1", unique="", ports=tcp(80))
    assert negative(World(nameless).ask("web.docker", "SRV"))[0] == "NODATA"
