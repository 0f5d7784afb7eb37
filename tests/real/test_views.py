"""Answers that the asker can reach: asked from containers, from the host and from beyond, on a real engine.

Every expected address is asked from the engine. The real dig runs with the network stack of the
container that asks, and where it names no server, it goes the way that programs go: by way of
Docker's own resolver, which drops replies that don't come from the address that it asked.
"""

from __future__ import annotations

import subprocess
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from tests.real.compose import Compose
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.debian import need
from tests.real.place import containers_of, docker_host, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.place import Place
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

PROJECT = """
services:
  postgres: {{image: "{image}"}}
  app: {{image: "{image}", dns: "{dns}"}}
"""


@pytest.fixture(scope="module")
def place(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    with docker_host(session, tmp_path_factory.mktemp("views"), 9) as place:
        yield place


@pytest.fixture
def made(place: Place) -> Generator[Containers]:
    with containers_of(place) as made:
        yield made


@pytest.fixture
def projects(place: Place, tmp_path: Path) -> Generator[Compose]:
    with or_left_out():
        compose = Compose(place.engine, tmp_path)
    yield compose
    compose.close()


def test_two_projects_never_see_each_others(
    place: Place, projects: Compose, unique: Callable[[str], str]
) -> None:
    one, two = unique("one"), unique("two")
    for name in (one, two):
        projects.up(name, PROJECT.format(image=place.engine.image, dns=place.gateway("bridge")))
    postgres = {name: {place.ip(f"{name}-postgres-1", f"{name}_default")} for name in (one, two)}
    wait(lambda: place.host("postgres.docker"), postgres[one] | postgres[two])

    def ask(name: str, asked: str = "postgres.docker") -> set[str]:
        reply = place.inside(f"{name}-app-1", asked)
        assert reply.status == "NOERROR", reply.text
        return reply.addresses

    for name in (one, two):
        assert ask(name) == postgres[name]
        # the bare name as well, when it does not stop at Docker's own resolver
        direct = place.inside(f"{name}-app-1", "postgres", server=place.gateway(f"{name}_default"))
        assert direct.addresses == postgres[name], direct.text
    assert ask(one, f"postgres.{two}.docker") == postgres[two], "by its project's name it is meant"

    # What the first project's programs must not fall over to while theirs is down, and gone:
    for command in (("stop", "--time", "1"), ("rm",)):
        place.engine.docker(*command, f"{one}-postgres-1")
        wait(lambda: place.host("postgres.docker"), postgres[two])
        for asked in ("postgres.docker", f"postgres.{one}.docker"):
            reply = place.inside(f"{one}-app-1", asked)
            assert reply.nodata, f"{command} {asked}\n{reply.text}"
        # Docker does not know "postgres" any more, and asks
        assert place.inside(f"{one}-app-1", "postgres").nodata
        assert ask(two) == postgres[two]
    projects.run(one, "up", "--detach")
    wait(
        lambda: place.inside(f"{one}-app-1", "postgres.docker"),
        {place.ip(f"{one}-postgres-1", f"{one}_default")},
    )
    assert ask(two) == postgres[two]


def test_the_address_on_the_shared_network(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    a, b, c = sorted(unique("net") for _ in range(3))
    for network in (a, b, c):
        made.network(network)
    dns = ("--dns", place.gateway("bridge"))
    target, service = unique("target"), unique("svc")
    made.run(target, "--network", b, "--label", f"discoverd.service={service}")
    place.engine.docker("network", "connect", a, target)
    asker = {network: unique("asker") for network in (a, b, c)}
    for network, name in asker.items():
        made.run(name, "--network", network, *dns)
    on = {network: place.ip(target, network) for network in (a, b)}
    strict = 1053
    place.serve("--scope", "strict", listen=f":{strict}")

    for name in (f"{service}.docker", f"{target}.docker", f"{service}.docker"):
        wait(lambda name=name: place.inside(asker[a], name), {on[a]})  # type: ignore[misc]
        wait(lambda name=name: place.inside(asker[b], name), {on[b]})  # type: ignore[misc]
        # first by name where nothing is shared, never a random one
        assert place.inside(asker[c], name).addresses == {on[a]}
        assert place.host(name).addresses == {on[a]}
        assert place.lan(name).addresses == {on[a]}
        wait(lambda name=name: place.host(name, port=strict), {on[a]})  # type: ignore[misc]
        for network in (a, b):
            reply = place.inside(asker[network], name, server=place.gateway(network), port=strict)
            assert reply.addresses == {on[network]}, reply.text
        reply = place.inside(asker[c], name, server=place.gateway(c), port=strict)
        assert reply.nodata, reply.text
    # that network is asked for by name: whoever asks
    for network in (a, b):
        for reply in (
            place.inside(asker[a], f"{service}.{network}.docker"),
            place.lan(f"{service}.{network}.docker"),
        ):
            assert reply.addresses == {on[network]}, reply.text
    # two instances, one of them shared: exactly that one is served
    far = unique("far")
    made.run(far, "--network", b, "--label", f"discoverd.service={service}")
    wait(lambda: place.host(f"{service}.docker"), {on[a], place.ip(far, b)})
    assert place.inside(asker[a], f"{service}.docker").addresses == {on[a]}
    assert place.inside(asker[b], f"{service}.docker").addresses == {on[b], place.ip(far, b)}


def test_a_label_chooses_the_network_for_the_host(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    first, second = sorted(unique("net") for _ in range(2))
    for network in (first, second):
        made.network(network)
    name = unique("chosen")
    made.run(name, "--network", first, "--label", f"discoverd.network={second}")
    place.engine.docker("network", "connect", second, name)
    wait(lambda: place.host(f"{name}.docker"), {place.ip(name, second)})
    assert place.lan(f"{name}.docker").addresses == {place.ip(name, second)}


def test_replies_leave_from_the_asked_address(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    network, asker = unique("net"), unique("asker")
    made.network(network)
    made.run(asker, "--network", network, "--dns", place.gateway("bridge"))
    mine = {place.ip(asker, network)}
    wait(lambda: place.inside(asker, f"{asker}.docker"), mine)
    for server in (place.gateway(network), place.gateway("bridge"), place.address):
        for option in ("+notcp", "+tcp"):
            # dig takes a reply from nobody but whom it asked
            reply = place.inside(asker, f"{asker}.docker", "A", option, server=server)
            assert reply.addresses == mine, f"{server} {option}\n{reply.text}"
    # as programs do it: the C library's way, by the container's own resolv.conf
    said = place.engine.docker("exec", asker, "nslookup", f"{asker}.docker")
    assert mine.issubset(said.split()), said


def test_the_default_bridge(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    asker, other = unique("asker"), unique("other")
    made.run(asker, "--dns", place.gateway("bridge"))
    made.run(other)
    wait(lambda: place.inside(asker, f"{other}.docker", server=place.gateway("bridge")), {place.ip(other)})
    said = place.engine.docker("exec", asker, "nslookup", f"{other}.docker")
    assert place.ip(other) in said.split(), said


def test_in_a_container_on_several_networks(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    """discoverd as a container: it has an address on each network, and clients use the one on theirs."""
    a, b = sorted(unique("net") for _ in range(2))
    for network in (a, b):
        made.network(network)
    dns = unique("dns")
    made.run(dns, "--network", a)
    place.engine.docker("network", "connect", b, dns)
    at = {network: place.ip(dns, network) for network in (a, b)}
    place.serve(inside=dns)
    target = unique("target")
    made.run(target, "--network", a)
    place.engine.docker("network", "connect", b, target)
    for network in (a, b):
        asker = unique("asker")
        made.run(asker, "--network", network, "--dns", at[network])
        truth = {place.ip(target, network)}
        wait(lambda asker=asker: place.inside(asker, f"{target}.docker"), truth)  # type: ignore[misc]
        assert place.inside(asker, f"{target}.docker", server=at[network]).addresses == truth
        # the host comes in by a bridge's own address: that network's view
        assert place.host(f"{target}.docker", server=at[network]).addresses == truth


def test_published_ports_for_clients_beyond_the_host(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    port = 1054
    place.serve(listen=f":{port}", config=f'host_address = "{place.address}"\n')
    service, network = unique("shop"), unique("net")
    made.network(network)
    labelled = ("--network", network, "--label", f"discoverd.service={service}", "--expose", "8080")
    out, loopback, hidden = unique("out"), unique("loopback"), unique("hidden")
    made.run(out, *labelled, "--publish", "8080")
    made.run(loopback, *labelled, "--publish", "127.0.0.1::8080")
    made.run(hidden, *labelled)
    inner = {place.ip(name, network) for name in (out, loopback, hidden)}
    wait(lambda: place.host(f"{service}.docker", port=port), inner)

    assert place.lan(f"{service}.docker", port=port).addresses == {place.address}
    for name in (loopback, hidden):
        assert place.lan(f"{name}.docker", port=port).nodata, name
    published = place.engine.docker("port", out, "8080/tcp").splitlines()[0].rpartition(":")[2]
    for name in (f"{service}.docker", f"_8080._tcp.{service}.docker"):
        reply = place.lan(name, "SRV", port=port)
        (record,) = reply.answer
        priority, _, target_port, target = record.data.split()
        assert (priority, target_port) == ("0", published), reply.text
        assert [(r.name, r.data) for r in reply.additional if r.type == "A"] == [(target, place.address)]
        assert place.lan(target, port=port).addresses == {place.address}
    ports = {record.data.split()[2] for record in place.host(f"{service}.docker", "SRV", port=port).answer}
    assert ports == {"8080"}, "on the host containers are reached directly"


def test_ipv6_and_both(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    network, plain = unique("six"), unique("four")
    slot, number = place.address.split(".")[1:3]
    made.network(
        network, "--ipv6", "--subnet", f"fd00:{slot}:{number}::/64", "--gateway", f"fd00:{slot}:{number}::1"
    )
    made.network(plain)
    both, asker, only = unique("both"), unique("asker"), unique("only")
    made.run(both, "--network", plain)
    place.engine.docker("network", "connect", network, both)
    made.run(asker, "--network", network, "--dns", place.gateway("bridge"))
    made.run(only, "--network", plain)
    four, six = place.ip(both, network), place.ip(both, network, "GlobalIPv6Address")
    wait(lambda: place.inside(asker, f"{both}.docker"), {four})
    wait(lambda: place.inside(asker, f"{both}.docker", "AAAA"), {six})
    # asked over IPv6: the asker is known by that address too
    gateway = place.gateway(network, 6)
    for rtype, truth in (("A", four), ("AAAA", six)):
        for option in ("+notcp", "+tcp"):
            reply = place.inside(asker, f"{both}.docker", rtype, option, server=gateway)
            assert reply.addresses == {truth}, reply.text
    assert place.inside(asker, f"{only}.docker", "AAAA").nodata
    assert place.host(f"{both}.docker", "AAAA").addresses == {six}, "it has none on the preferred network"
    assert place.host(f"{both}.docker").addresses == {place.ip(both, min(network, plain))}
    for address in (four, six):
        reverse = place.inside(asker, ip_address(address).reverse_pointer, "PTR", server=gateway)
        assert reverse.data[:1] == [f"{both}.docker."], reverse.text


def test_an_internal_network(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    network, asker, target = unique("inner"), unique("asker"), unique("target")
    made.network(network, "--internal")
    made.run(asker, "--network", network, "--dns", place.gateway("bridge"))
    made.run(target, "--network", network)
    gateway = place.gateway(network)
    wait(lambda: place.inside(asker, f"{target}.docker", server=gateway), {place.ip(target, network)})
    assert place.host(f"{target}.docker").addresses == {place.ip(target, network)}
    # there is no way out, and none by way of DNS either
    foreign = place.inside(asker, "example.com", server=gateway)
    assert (foreign.status, "ra" in foreign.flags) == ("REFUSED", False), foreign.text


def test_borrowed_and_missing_network_stacks(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    network = unique("net")
    made.network(network)
    lender, guest, none = unique("lender"), unique("guest"), unique("none")
    made.run(lender, "--network", network, "--dns", place.gateway("bridge"))
    made.run(guest, "--network", f"container:{lender}")
    made.run(none, "--network", "none")
    mine = {place.ip(lender, network)}
    for name in (lender, guest):
        wait(lambda name=name: place.host(f"{name}.docker"), mine)  # type: ignore[misc]
        assert place.inside(guest, f"{name}.docker").addresses == mine
    wait(lambda: place.host(f"{none}.docker"), set())
    assert place.host(f"{none}.docker").nodata, "it is there, and cannot be reached"
    place.engine.docker("kill", lender)
    wait(lambda: place.host(f"{guest}.docker"), set())
    # the engine tells nobody that it lives without a network now


def test_the_hosts_own_network_stack(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    """It is where its host is: the host's address on the asker's network, or loopback."""
    network, asker, name, guest = unique("net"), unique("asker"), unique("onhost"), unique("guest")
    made.network(network)
    made.run(asker, "--network", network, "--dns", place.gateway("bridge"))
    made.run(name, "--network", "host", "--expose", "8099", command=("httpd", "-f", "-p", "8099"))
    made.run(guest, "--network", f"container:{name}")
    gateway = place.gateway(network)
    for asked in (f"{name}.docker", f"{guest}.docker"):
        wait(lambda asked=asked: place.inside(asker, asked), {gateway})  # type: ignore[misc]
        assert place.host(asked).addresses == {"127.0.0.1"}
        assert place.lan(asked).nodata, "nobody said what the host is reached at from there"
    # and it is reached there
    page = ("sh", "-c", f"wget -q -O - http://{name}.docker:8099/ 2>&1 | grep 404")
    assert "404" in place.engine.docker("exec", asker, *page)
    # in the container itself, the host is what asks
    assert place.inside(name, f"{name}.docker", server="127.0.0.1").addresses == {"127.0.0.1"}

    port = 1055
    place.serve(listen=f":{port}", config=f'host_address = "{place.address}"\n')
    wait(lambda: place.lan(f"{name}.docker", port=port), {place.address})
    (record,) = place.lan(f"{name}.docker", "SRV", port=port).answer
    assert record.data.split()[2] == "8099"
    assert place.host(f"{name}.docker", port=port).addresses == {"127.0.0.1"}
    assert place.inside(asker, f"{name}.docker", server=gateway, port=port).addresses == {gateway}
    place.engine.docker("kill", name)
    wait(lambda: place.host(f"{name}.docker"), set())
    assert place.host(f"{name}.docker").nodata


def test_service_mode_in_compose(place: Place, projects: Compose, unique: Callable[[str], str]) -> None:
    name = unique("side")
    image = place.engine.image
    file = f"""
services:
  web: {{image: "{image}"}}
  sidecar: {{image: "{image}", network_mode: "service:web"}}
"""
    projects.up(name, file)
    mine = {place.ip(f"{name}-web-1", f"{name}_default")}
    for asked in (
        "sidecar.docker",
        f"sidecar.{name}.docker",
        f"{name}-sidecar-1.docker",
        f"web.{name}.docker",
    ):
        wait(lambda asked=asked: place.host(asked), mine)  # type: ignore[misc]


def test_networks_as_the_projects_file_calls_them(
    place: Place, projects: Compose, unique: Callable[[str], str]
) -> None:
    """Its default network counts as that under any name, and ``inner`` is each project's own."""
    one, two = unique("one"), unique("two")
    file = """
services:
  web: {{image: "{image}", dns: "{dns}", networks: [default, inner]}}
  app: {{image: "{image}", dns: "{dns}"}}
networks:
  default: {{name: "zz-{name}"}}
  inner: {{}}
"""
    gateway = place.gateway("bridge")
    for name in (one, two):
        projects.up(name, file.format(image=place.engine.image, dns=gateway, name=name))
    inner = {name: {place.ip(f"{name}-web-1", f"{name}_inner")} for name in (one, two)}
    for name in (one, two):
        wait(lambda name=name: place.host(f"web.{name}.docker"), {place.ip(f"{name}-web-1", f"zz-{name}")})  # type: ignore[misc]
        assert place.host(f"web.{name}_inner.docker").addresses == inner[name]
        # asked by name, from a network that it is not
        reply = place.inside(f"{name}-app-1", "web.inner.docker")
        assert reply.addresses == inner[name], reply.text
    assert place.host("web.inner.docker").addresses == inner[one] | inner[two]


def kernel_refuses(place: Place, kind: str) -> str:
    """Why there can be no link of this kind here; nothing where there can."""
    ip = (*place.enter, need("ip", "iproute2"), "link")
    made = subprocess.run(
        [*ip, "add", "link", "eth0", "name", "probe0", "type", kind],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        subprocess.run([*ip, "del", "probe0"], check=True)
    return made.stderr.strip()


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_networks_without_a_bridge(
    place: Place, made: Containers, unique: Callable[[str], str], driver: str
) -> None:
    # A kernel is nothing that the tests could install: left out with CI set as well.
    if refusal := kernel_refuses(place, driver):
        pytest.skip(f"this kernel has no {driver}: {refusal}")
    network, target = unique(driver), unique("target")
    subnet = f"10.{place.address.split('.')[1]}.119.0/24"
    made.network(network, "--driver", driver, "--opt", "parent=eth0", "--subnet", subnet)
    made.run(target, "--network", network)
    wait(lambda: place.host(f"{target}.docker"), {place.ip(target, network)})
    bridged, own, asker = unique("net"), unique("own"), unique("asker")
    made.network(bridged)
    made.run(own, "--network", bridged)
    place.engine.docker("network", "connect", network, own)
    made.run(asker, "--network", bridged, "--dns", place.gateway("bridge"))
    wait(lambda: place.inside(asker, f"{own}.docker"), {place.ip(own, bridged)})
    assert place.inside(asker, f"{own}.{network}.docker").addresses == {place.ip(own, network)}
