"""Names: every row of docs/names.md and every label, on containers that a real engine runs.

Expected addresses are asked from the engine. Most is asked on the host; what belongs to one
client, its links, is asked with that client's network stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.compose import Compose
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.place import containers_of, docker_host, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.place import Place
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

#: A discoverd that serves only what asks for it, and makes names by template.
CHOOSY = 1053
FILE = """
services:
  web:
    image: "{image}"
    labels: {{app: storefront}}
    networks: {{default: {{aliases: [www]}}, edge: {{}}}}
  echo-server: {{image: "{image}"}}
  client: {{image: "{image}", dns: "{dns}", links: ["echo-server:talkto"]}}
  stranger: {{image: "{image}", dns: "{dns}"}}
  boxed: {{image: "{image}", hostname: shoebox, container_name: ShopBox}}
  hidden: {{image: "{image}", labels: {{discoverd.enable: "false"}}}}
  named:
    image: "{image}"
    labels: {{discoverd.name: "extra,deep.er,*.wild", discoverd.enable: "true", app: "named"}}
  renamed: {{image: "{image}", labels: {{discoverd.service: other, discoverd.scope: team}}}}
  ported:
    image: "{image}"
    expose: ["5432"]
    labels:
      discoverd.ports: "http=8000,metrics=9100/tcp,syslog=1514/udp"
      discoverd.tags: "blue,v2"
      discoverd.meta.version: "1.2"
      discoverd.meta.path: "/api?a=b"
      discoverd.ttl: "77"
      discoverd.weight: "3"
  single: {{image: "{image}", labels: {{discoverd.port: "6000", discoverd.ttl: "0"}}}}
  moved:
    image: "{image}"
    expose: ["8080", "9090"]
    environment:
      SERVICE_NAME: registered
      SERVICE_8080_NAME: webface
      SERVICE_TAGS: "green,old"
  ignored: {{image: "{image}", environment: {{SERVICE_IGNORE: "true"}}}}
networks: {{edge: {{name: "{edge}"}}}}
"""


class Shop:
    """The project, up on a host of its own, with two ``web``."""

    def __init__(self, place: Place, compose: Compose) -> None:
        self.place, self.compose = place, compose
        self.name, self.edge = "shop", "edge"
        text = FILE.format(image=place.engine.image, dns=place.gateway("bridge"), edge=self.edge)
        compose.up(self.name, text, "--scale", "web=2")

    def ip(self, service: str, number: int = 1, network: str = "") -> str:
        (found,) = [
            each
            for each in self.place.engine.inspect(*self.compose.containers(self.name, service))
            if each["Config"]["Labels"]["com.docker.compose.container-number"] == str(number)
            and each["Config"]["Labels"]["com.docker.compose.oneoff"] == "False"
        ]
        address: str = found["NetworkSettings"]["Networks"][network or f"{self.name}_default"]["IPAddress"]
        assert address
        return address

    def id(self, container: str) -> str:
        return self.place.engine.docker("inspect", "--format", "{{.Id}}", container)

    def srv(self, name: str) -> list[tuple[int, int, str]]:
        """SRV answers as (port, weight, address that the additional section gives the target)."""
        reply = self.place.host(name, "SRV", "+tcp")
        assert reply.status == "NOERROR", reply.text
        addresses = {record.name: record.data for record in reply.additional if record.type == "A"}
        found = []
        for record in reply.answer:
            priority, weight, port, target = record.data.split()
            assert priority == "0"
            assert self.place.host(target).addresses == {addresses[target]}, "the target resolves by itself"
            found.append((int(port), int(weight), addresses[target]))
        return sorted(found)


@pytest.fixture(scope="module")
def place(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    with docker_host(session, tmp_path_factory.mktemp("names"), 8) as place:
        yield place


@pytest.fixture(scope="module")
def shop(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with or_left_out():
        compose = Compose(place.engine, tmp_path_factory.mktemp("shop"))
    try:
        made = Shop(place, compose)
        wait(lambda: place.host("web.shop.docker"), {made.ip("web", 1), made.ip("web", 2)})
        wait(lambda: place.host("single.shop.docker"), {made.ip("single")})
        yield made
    finally:
        compose.close()


@pytest.fixture
def made(place: Place) -> Generator[Containers]:
    with containers_of(place) as made:
        yield made


def expect(place: Place, name: str, addresses: set[str]) -> None:
    for asked in (name, name.upper()):
        reply = place.host(asked)
        assert (reply.status, reply.addresses) == ("NOERROR", addresses), f"{asked}\n{reply.text}"


def test_the_names_of_a_service(shop: Shop) -> None:
    one, two = shop.ip("web", 1), shop.ip("web", 2)
    edge = {shop.ip("web", 1, shop.edge), shop.ip("web", 2, shop.edge)}
    for name in (
        *("web", "web.shop", "www", "www.shop", "all.web", "all.web.shop", "web.shop_default"),
        *("www.shop_default",),
    ):
        expect(shop.place, f"{name}.docker", {one, two})
    expect(shop.place, "web.edge.docker", edge)
    for number, address in ((1, one), (2, two)):
        for name in (f"{number}.web.shop", f"shop-web-{number}", f"shop_web_{number}"):
            expect(shop.place, f"{name}.docker", {address})
        expect(shop.place, f"{shop.id(f'shop-web-{number}')[:12]}.docker", {address})
        expect(shop.place, f"shop-web-{number}.edge.docker", {shop.ip("web", number, shop.edge)})
    # without the domain, as programs without a search list ask
    for name in ("web", "web.shop", "2.web.shop"):
        expect(shop.place, name, {two} if name.startswith("2") else {one, two})
    # names that nobody has, and a name that only has names below it
    for name in ("3.web.shop", "nobody", "web.nowhere", "www.edge"):
        assert shop.place.host(f"{name}.docker").nxdomain, name
    assert shop.place.host("shop.docker").nodata


def test_hostname_and_container_name(shop: Shop) -> None:
    for name in ("boxed", "boxed.shop", "1.boxed.shop", "shopbox", "ShopBox", "shoebox"):
        expect(shop.place, f"{name}.docker", {shop.ip("boxed")})
    # the short id is every other container's hostname, and that one was not set by anybody
    reverse = shop.place.host(".".join(reversed(shop.ip("boxed").split("."))) + ".in-addr.arpa", "PTR")
    assert reverse.data[0] == "shopbox.docker.", reverse.text


def test_links_belong_to_their_client(shop: Shop, made: Containers, unique: Callable[[str], str]) -> None:
    place, echo = shop.place, {shop.ip("echo-server")}
    gateway = place.gateway("shop_default")
    for name in ("talkto", "talkto.docker"):
        assert place.inside("shop-client-1", name, server=gateway).addresses == echo
        other = place.inside("shop-stranger-1", name, server=gateway)
        assert not other.addresses, other.text
    assert place.inside("shop-client-1", "talkto.docker").addresses == echo, "through Docker's own resolver"
    assert place.host("talkto.docker").nxdomain
    # and those of the default bridge, where Docker has no resolver at all
    base, client = unique("base"), unique("client")
    made.run(base)
    made.run(client, "--link", f"{base}:Lnk2", "--dns", place.gateway("bridge"))
    bridge = place.gateway("bridge")
    for name in ("lnk2.docker", "lnk2"):
        wait(lambda name=name: place.inside(client, name, server=bridge), {place.ip(base)})  # type: ignore[misc]
    assert place.inside(base, "lnk2.docker", server=bridge).nxdomain


def test_a_plain_container(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    network, name, alias = unique("net"), unique("Plain"), unique("alias")
    made.network(network)
    key = made.run(name, "--network", network, "--network-alias", alias)
    mine = {place.ip(name, network)}
    wait(lambda: place.host(f"{name}.docker"), mine)
    for asked in (name.lower(), alias, key[:12], f"all.{name}", f"{name}.{network}", f"{alias}.{network}"):
        expect(place, f"{asked}.docker", mine)


def test_one_offs_go_by_their_own_name_only(shop: Shop) -> None:
    web = {shop.ip("web", 1), shop.ip("web", 2)}
    name = shop.compose.run("shop", "run", "--detach", "web", "idle").splitlines()[-1]
    try:
        own = shop.place.engine.docker("inspect", "--format", "{{.Name}}", name).removeprefix("/")
        mine = {shop.place.ip(own, "shop_default")}
        wait(lambda: shop.place.host(f"{own}.docker"), mine)
        assert not mine & web
        for asked in ("web", "web.shop", "all.web", "www"):
            expect(shop.place, f"{asked}.docker", web)
        expect(shop.place, "1.web.shop.docker", {shop.ip("web", 1)})
    finally:
        shop.place.engine.docker("rm", "--force", name)


def test_name_service_scope_and_enable_labels(shop: Shop) -> None:
    place, named, renamed = shop.place, {shop.ip("named")}, {shop.ip("renamed")}
    for name in ("named", "named.shop", "extra", "deep.er", "anything.wild", "any.thing.wild"):
        expect(place, f"{name}.docker", named)
    assert place.host("wild.docker").nodata
    assert place.host("er.docker").nodata
    for name in ("other", "other.team", "1.other.team", "shop-renamed-1"):
        expect(place, f"{name}.docker", renamed)
    for name in ("other.shop", "hidden", "hidden.shop", "shop-hidden-1", "ignored", "ignored.shop"):
        assert place.host(f"{name}.docker").nxdomain, name
    assert place.host(f"{shop.id('shop-hidden-1')[:12]}.docker").nxdomain


def test_port_meta_ttl_weight_and_tag_labels(shop: Shop) -> None:
    place, ported = shop.place, shop.ip("ported")
    for name in ("blue.ported", "v2.ported", "blue.ported.shop"):
        expect(place, f"{name}.docker", {ported})
    weight = 3 * 256
    assert shop.srv("ported.docker") == [(port, weight, ported) for port in (1514, 5432, 8000, 9100)]
    for asked, port in (
        *(("_http._tcp", 8000), ("_8000._tcp", 8000), ("_metrics._tcp", 9100), ("_syslog._udp", 1514)),
        *(("_postgresql._tcp", 5432), ("_5432._tcp", 5432)),
    ):
        assert shop.srv(f"{asked}.ported.shop.docker") == [(port, weight, ported)], asked
    assert place.host("_http._udp.ported.docker", "SRV").nxdomain
    assert place.host("_nothing._tcp.ported.docker", "SRV").nxdomain
    texts = place.host("ported.docker", "TXT")
    assert [sorted(record.data.split()) for record in texts.answer] == [
        ['"path=/api?a=b"', '"tags=blue,v2"', '"version=1.2"']
    ]
    for rtype in ("A", "SRV", "TXT"):
        assert {record.ttl for record in place.host("ported.docker", rtype).answer} == {77}
    assert shop.srv("_6000._tcp.single.docker") == [(6000, 256, shop.ip("single"))]
    assert {record.ttl for record in place.host("single.docker").answer} == {0}
    # the type is not there, the name is
    assert place.host("ported.docker", "MX").nodata
    assert place.host("single.docker", "TXT").nodata


def test_registrators_words(shop: Shop, made: Containers, unique: Callable[[str], str]) -> None:
    place, moved = shop.place, shop.ip("moved")
    for name in (
        "moved",
        "moved.shop",
        "registered",
        "registered.shop",
        "webface",
        "green.moved",
        "old.webface",
    ):
        expect(place, f"{name}.docker", {moved})
    assert [port for port, _, _ in shop.srv("webface.docker")] == [8080]
    assert [port for port, _, _ in shop.srv("moved.docker")] == [8080, 9090]
    # without Compose it is the container's service
    name, service = unique("plain"), unique("svc")
    made.run(name, "--env", f"SERVICE_NAME={service}", "--label", "SERVICE_TAGS=red", "--expose", "80")
    for asked in (service, name, f"red.{service}"):
        wait(lambda asked=asked: place.host(f"{asked}.docker"), {place.ip(name)})  # type: ignore[misc]
    ignored = unique("ignored")
    made.run(ignored, "--env", "SERVICE_IGNORE=1")
    last = unique("last")
    made.run(last)
    wait(lambda: place.host(f"{last}.docker"), {place.ip(last)})
    assert place.host(f"{ignored}.docker").nxdomain


def test_only_enabled_and_templates(shop: Shop, made: Containers, unique: Callable[[str], str]) -> None:
    place = shop.place
    place.serve(
        listen=f":{CHOOSY}",
        config='only_enabled = true\nnames = ["{service}-{replica}.x.{project}", "{label:app}", "*.{name}"]',
    )
    mine = {shop.ip("named")}
    for name in ("named", "named.shop", "named-1.x.shop", "some.shop-named-1"):
        wait(lambda name=name: place.host(f"{name}.docker", port=CHOOSY), mine)  # type: ignore[misc]
    for name in ("web", "web.shop", "storefront", "shop-web-1", "ported", "registered"):
        reply = place.host(f"{name}.docker", port=CHOOSY)
        assert reply.nxdomain, reply.text
    # a container made while it serves, by the same rules
    name = unique("enabled")
    made.run(name, "--label", "discoverd.enable=true", "--label", "app=Store Front")
    wait(lambda: place.host("store-front.docker", port=CHOOSY), {place.ip(name)})
