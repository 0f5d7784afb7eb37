"""Names and record types: docs/names.md, "Names" and "Record types", sentence by sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from discoverd.model import Port, SourceState
from discoverd.resolver.local import Settings
from discoverd.resolver.outcome import Answer, HinfoData, NoData, NotOurs, NxDomain, SoaData
from tests.build import ENGINE, HOST, World, container, glue, negative, short, static, tcp, texts, ttls

BOTH = ("shop-web-2", "shop_web_2")
WEB = container(
    "web",
    2,
    ("shop_default", "www"),
    "edge",
    project="shop",
    own_names=BOTH,
    hostname="front",
    tags=("v1",),
    extra_names=("portal", "a.b", "*.pages"),
)
FIRST = container("web", 1, "shop_default", project="shop", tags=("v2",))
OTHER = container("web", 3, "blog_default", project="blog", replica=1)


@pytest.fixture
def world() -> World:
    return World(WEB, FIRST, OTHER)


# -- the table of names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("web", ["10.2.0.3", "10.1.0.1", "10.1.0.2"]),
        ("web.shop", ["10.1.0.1", "10.1.0.2"]),
        ("web.blog", ["10.2.0.3"]),
        ("2.web.shop", ["10.1.0.2"]),
        ("1.web.shop", ["10.1.0.1"]),
        ("1.web.blog", ["10.2.0.3"]),
        ("shop-web-2", ["10.1.0.2"]),
        ("shop_web_2", ["10.1.0.2"]),
        ("www", ["10.1.0.2"]),
        ("www.shop", ["10.1.0.2"]),
        ("web.shop_default", ["10.1.0.1", "10.1.0.2"]),
        ("web.edge", ["10.3.0.2"]),
        ("www.shop_default", ["10.1.0.2"]),
        ("shop-web-2.edge", ["10.3.0.2"]),
        ("front", ["10.1.0.2"]),
        (short("shop-web-2"), ["10.1.0.2"]),
        ("portal", ["10.1.0.2"]),
        ("a.b", ["10.1.0.2"]),
        ("x.pages", ["10.1.0.2"]),
        ("y.x.pages", ["10.1.0.2"]),
        ("v1.web", ["10.1.0.2"]),
        ("v2.web.shop", ["10.1.0.1"]),
        ("all.web", ["10.2.0.3", "10.1.0.1", "10.1.0.2"]),
        ("all.web.shop", ["10.1.0.1", "10.1.0.2"]),
    ],
)
def test_every_name_of_the_table(world: World, name: str, addresses: list[str]) -> None:
    assert world.ips(f"{name}.docker") == addresses


@pytest.mark.parametrize(
    "name",
    ["db", "web.nothing", "3.web.shop", "2.web", "www.edge", "www.blog", "x.web.shop", "shop-web-2.shop"],
)
def test_names_that_are_in_no_table_do_not_exist(world: World, name: str) -> None:
    assert negative(world.ask(f"{name}.docker")) == ("NXDOMAIN", "docker", 5)


@pytest.mark.parametrize("name", ["shop", "b", "pages", "edge", "blog"])
def test_what_is_only_between_exists_without_data(world: World, name: str) -> None:
    for wanted in ("A", "SRV", "TXT", "MX", "ANY"):
        assert negative(world.ask(f"{name}.docker", wanted)) == ("NODATA", "docker", 5)


def test_a_plain_container_goes_by_its_name_alias_and_id() -> None:
    world = World(container("cache", 7, ("edge", "redis")))
    for name in ("cache", "redis", short("cache"), "cache.edge", "redis.edge"):
        assert world.ips(f"{name}.docker") == ["10.3.0.7"]


def test_a_one_off_is_never_counted_as_an_instance_of_the_service(world: World) -> None:
    once = container("web", 9, "shop_default", project="shop", name="shop-web-run-0a", in_service=False)
    world.put(once)
    assert world.ips("shop-web-run-0a.docker") == ["10.1.0.9"]
    for name in ("web", "web.shop", "all.web", "web.shop_default"):
        assert "10.1.0.9" not in world.ips(f"{name}.docker")
    assert isinstance(world.ask("9.web.shop.docker"), NxDomain)


def test_a_wildcard_does_not_cover_what_exists() -> None:
    world = World(
        static("pages", "192.0.2.1", extra_names=("*.pages",)),
        static("x", "192.0.2.2", extra_names=("a.b.pages",)),
    )
    assert world.ips("c.pages.docker") == world.ips("*.pages.docker") == ["192.0.2.1"]
    assert world.ips("a.b.pages.docker") == ["192.0.2.2"]
    assert negative(world.ask("b.pages.docker"))[0] == "NODATA"
    assert negative(world.ask("c.b.pages.docker"))[0] == "NXDOMAIN"
    assert negative(world.ask("c.pages.docker", "AAAA"))[0] == "NODATA"


def test_a_wildcard_does_not_cover_what_is_below_names_that_are_made_of_others() -> None:
    world = World(static("web", "192.0.2.1", extra_names=("*.web",), ports=(Port(80),)))
    assert negative(world.ask("_tcp.web.docker"))[0] == "NODATA"
    for name in ("x.all.web", "x._tcp.web", "x.y._tcp.web", "x._80._tcp.web"):
        assert negative(world.ask(f"{name}.docker"))[0] == "NXDOMAIN", name
    # these do not exist, so that what is below them is covered
    for name in ("x._udp.web", "all.x.web", "x.all.x.web", "x._tcp.x.web"):
        assert world.ips(f"{name}.docker") == ["192.0.2.1"], name


def test_a_tag_gives_way_to_a_scope_and_a_replica_of_that_name(world: World) -> None:
    world.put(
        static("shop", "192.0.2.9", tags=("web",)), static("web", "192.0.2.8", scope="shop", tags=("2",))
    )
    assert "192.0.2.9" not in world.ips("web.shop.docker")
    assert world.ips("2.web.shop.docker") == ["10.1.0.2"]
    assert world.ips("2.web.docker") == ["192.0.2.8"], "no replica goes by that name"


def test_services_of_other_sources_are_services_like_any() -> None:
    world = World(
        static("db", "192.0.2.1", scope="dc1", source="consul"),
        static("db", "192.0.2.2", scope="shop"),
        static("db", "192.0.2.3", source="registered"),
    )
    assert world.ips("db.docker") == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    assert world.ips("db.dc1.docker") == ["192.0.2.1"]
    assert world.ips("db.shop.docker") == ["192.0.2.2"]


# -- questions as they come ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "we\\046b.docker",
        "web\\046shop.docker",
        "web\x00.docker",
        "w\xe9b.docker",
        "web .docker",
        " web.docker",
        "*.docker",
        "-.docker",
    ],
)
def test_names_with_odd_octets_are_nobodys(world: World, name: str) -> None:
    """The reader of messages escapes dots and backslashes inside labels."""
    assert negative(world.ask(name)) == ("NXDOMAIN", "docker", 5)


def test_names_that_only_end_like_the_domain_are_foreign(world: World) -> None:
    for name in ("webdocker", "web.notdocker", "docker.web", "web.docker.example"):
        assert isinstance(world.ask(name), NotOurs)


# -- domains ------------------------------------------------------------------------------------------


def test_every_domain_has_every_name(world: World) -> None:
    world.set(domains=("docker", "corp.example"))
    assert world.ips("web.shop.corp.example") == world.ips("web.shop.docker")
    assert negative(world.ask("nothing.corp.example")) == ("NXDOMAIN", "corp.example", 5)
    assert {target for *_, target in World(replace(WEB, ports=tcp(80))).srv("web.docker")} == {
        f"{short('shop-web-2')}.docker"
    }


def test_the_longest_domain_wins_where_one_is_below_another(world: World) -> None:
    world.set(domains=("docker", "eu.docker"))
    assert world.ips("web.eu.docker") == world.ips("web.docker")
    assert negative(world.ask("x.eu.docker")) == ("NXDOMAIN", "eu.docker", 5)
    outcome = world.ask("eu.docker", "NS")
    assert texts(outcome) == ["ns.eu.docker."]


def test_targets_are_in_the_domain_that_was_asked() -> None:
    world = World(replace(WEB, ports=tcp(80)), settings=Settings(domains=("docker", "eu.docker")))
    target = f"{short('shop-web-2')}.eu.docker"
    assert world.srv("web.eu.docker") == [(256, 80, target)]
    assert glue(world.ask("web.eu.docker", "SRV")) == {target: {"10.1.0.2"}}
    assert world.ips(target) == ["10.1.0.2"]


# -- the domain itself --------------------------------------------------------------------------------


def test_the_apex_has_soa_and_ns(world: World) -> None:
    soa = world.ask("docker", "SOA")
    assert isinstance(soa, Answer)
    data = soa.records[0].data
    assert isinstance(data, SoaData)
    assert (data.primary, data.mailbox, data.minimum) == ("ns.docker", "hostmaster.docker", 5)
    assert data.serial == world.registry.serial
    ns = world.ask("docker", "NS", asked="192.168.7.1")
    assert texts(ns) == ["ns.docker."]
    assert glue(ns) == {"ns.docker": {"192.168.7.1"}}


def test_the_serial_number_fits_into_32_bits(world: World) -> None:
    world.registry.serial = 2**32 + 7
    outcome = world.ask("docker", "SOA")
    assert " 7 " in texts(outcome)[0]


@pytest.mark.parametrize("wanted", ["A", "AAAA", "TXT", "SRV", "MX", "DS", "DNSKEY", "PTR"])
def test_the_apex_has_no_other_data(world: World, wanted: str) -> None:
    assert negative(world.ask("docker", wanted)) == ("NODATA", "docker", 5)


@pytest.mark.parametrize(("asked", "wanted"), [("192.168.7.1", "A"), ("fd00::1", "AAAA")])
def test_the_name_server_is_the_address_that_was_asked(world: World, asked: str, wanted: str) -> None:
    assert texts(world.ask("ns.docker", wanted, asked=asked)) == [asked]
    other = "AAAA" if wanted == "A" else "A"
    assert negative(world.ask("ns.docker", other, asked=asked))[0] == "NODATA"
    assert negative(world.ask("ns.docker", "TXT", asked=asked))[0] == "NODATA"


@pytest.mark.parametrize("asked", [None, "0.0.0.0", "::"])
def test_the_name_server_has_no_address_where_that_is_not_known(world: World, asked: str | None) -> None:
    assert negative(world.ask("ns.docker", asked=asked)) == ("NODATA", "docker", 5)
    assert not glue(world.ask("docker", "NS", asked=asked))


def test_a_service_called_ns_goes_before_the_name_server() -> None:
    world = World(static("ns", "192.0.2.1"))
    assert texts(world.ask("ns.docker", asked="192.168.7.1")) == ["192.0.2.1"]


# -- types at a name ----------------------------------------------------------------------------------


def test_addresses_of_both_families() -> None:
    world = World(container("web", 1, "edge", six=True), static("web", "192.0.2.1"))
    assert sorted(world.ips("web.docker")) == ["10.3.0.1", "192.0.2.1"]
    assert world.ips("web.docker", wanted="AAAA") == ["fd00:3::1"]
    assert world.ips("web.docker", "fd00:3::99", "AAAA") == ["fd00:3::1"]


def test_one_address_that_two_instances_share_is_given_once() -> None:
    world = World(static("web", "192.0.2.1", id="a"), static("web", "192.0.2.1", id="b", unique="b"))
    assert world.ips("web.docker") == ["192.0.2.1"]


def test_the_only_family_is_no_data_for_the_other_one(world: World) -> None:
    assert negative(world.ask("web.docker", "AAAA")) == ("NODATA", "docker", 5)
    six = World(static("web", "2001:db8::1"))
    assert negative(six.ask("web.docker", "A")) == ("NODATA", "docker", 5)


@pytest.mark.parametrize("wanted", ["MX", "CNAME", "NS", "SOA", "PTR", "HTTPS", "CAA", "NAPTR", "DS"])
def test_other_types_at_a_name_that_exists_are_no_data(world: World, wanted: str) -> None:
    for name in ("web", "web.shop", "shop-web-2", "x.pages", "all.web", "shop"):
        assert negative(world.ask(f"{name}.docker", wanted)) == ("NODATA", "docker", 5)


def test_any_is_answered_with_as_little_as_possible(world: World) -> None:
    """RFC 8482 section 4.2."""
    for name in ("web.docker", "docker", "x.pages.docker"):
        outcome = world.ask(name, "ANY")
        assert isinstance(outcome, Answer)
        assert [record.data for record in outcome.records] == [HinfoData("RFC8482", "")]
    assert isinstance(world.ask("ns.docker", "ANY", asked="192.168.7.1"), Answer)


# -- for how long ---------------------------------------------------------------------------------------


def test_five_seconds_unless_told_otherwise(world: World) -> None:
    assert ttls(world.ask("web.docker")) == {5}
    world.set(ttl=60)
    assert ttls(world.ask("web.docker")) == ttls(world.ask("docker", "NS")) == {60}


@pytest.mark.parametrize(("own", "ttl"), [((0,), 0), ((60,), 60), ((60, None), 5), ((60, 2), 2)])
def test_an_instances_own_time_counts_and_the_least_of_a_set(own: tuple[int | None, ...], ttl: int) -> None:
    """RFC 2181 section 5.2: all records of a set have one TTL."""
    web = [static("web", f"192.0.2.{n}", ttl=each, ports=tcp(80)) for n, each in enumerate(own)]
    world = World(*web)
    for wanted in ("A", "SRV", "ANY"):
        assert ttls(world.ask("web.docker", wanted)) == {ttl}


def test_what_is_left_out_has_no_say_in_it() -> None:
    near = container("web", 1, "edge", ttl=60)
    world = World(near, container("web", 2, "backend", name="far", ttl=1))
    assert ttls(world.ask("web.docker", asker="10.3.0.99")) == {60}
    assert ttls(world.ask("web.docker", asker=HOST)) == {1}


def test_what_rests_on_a_source_out_of_reach_lives_five_seconds_at_most() -> None:
    stale = container("web", 1, "edge", ttl=60, ports=tcp(80))
    world = World(stale, container("db", 2, "edge", ttl=1), static("api", "192.0.2.1", ttl=60))
    world.writer(ENGINE).status(SourceState.STALE, "connection refused")
    assert ttls(world.ask("web.docker")) == ttls(world.ask("web.docker", "SRV")) == {5}
    assert ttls(world.ask("1.0.3.10.in-addr.arpa", "PTR")) == {5}
    assert ttls(world.ask("db.docker")) == {1}
    assert ttls(world.ask("api.docker")) == {60}
    assert world.ips("web.docker") == ["10.3.0.1"], "its last known instances stay"
    world.writer(ENGINE).status(SourceState.LIVE)
    assert ttls(world.ask("web.docker")) == {60}


def test_negative_answers_live_as_long_as_configured(world: World) -> None:
    world.set(negative_ttl=30)
    for name, wanted in (("nothing", "A"), ("web", "AAAA"), ("shop", "A")):
        outcome = world.ask(f"{name}.docker", wanted)
        assert isinstance(outcome, NoData | NxDomain)
        assert isinstance(outcome.soa.data, SoaData)
        assert outcome.soa.ttl == outcome.soa.data.minimum == 30
