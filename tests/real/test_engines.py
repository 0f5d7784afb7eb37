"""Two Docker hosts, one discoverd on the first: real engines in network namespaces, routed to each other.

Their default bridges have one and the same range, as fresh hosts have; networks made for it have
ranges of their own that the other host has a route to. Expected addresses are asked from the engines.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.certificates import Authority
from tests.real import engine as engines
from tests.real.conftest import TIMEOUT, Containers, or_left_out
from tests.real.debian import need
from tests.real.place import Place, wait
from tests.real.session import forwarding
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.engine import HostedEngine
    from tests.real.server import Server
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

NO_MASQUERADE = ("--opt", "com.docker.network.bridge.enable_ip_masquerade=false")
#: discoverd with a host_address for the second engine.
PUBLISHED = 1053
WEB = ("sh", "-c", "mkdir /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www")


def run(*command: str, prefix: tuple[str, ...] = ()) -> None:
    subprocess.run([*prefix, *command], check=True, capture_output=True)


@dataclass
class Hosts:
    """The hosts as places to ask from; ``near`` has discoverd."""

    near: Place
    far: Place
    networks: dict[str, str]

    def link_of(self, place: Place) -> str:
        """The interface here that leads to a host."""
        namespace = place.daemon.namespace
        assert namespace
        return namespace.name

    def route(self) -> None:
        """What routers between two hosts know: which ranges are behind which."""
        for place in (self.near, self.far):
            ip = need("ip", "iproute2")
            run(ip, "route", "replace", self.networks[place.address], "via", place.address)

    def cut(self) -> None:
        run(need("ip", "iproute2"), "link", "set", self.link_of(self.far), "down")

    def heal(self) -> None:
        run(need("ip", "iproute2"), "link", "set", self.link_of(self.far), "up")
        self.route()

    def serve(self, *, port: int = 53, host_address: str = "") -> Server:
        url = f"tcp://{self.far.address}:2375"
        known = f'host_address = "{host_address}"\n' if host_address else ""
        far = f'\n[[docker]]\nurl = "{url}"\nname = "far"\n{known}'
        return self.near.serve("--docker", url, listen=f":{port}", config=far)

    def ip(self, place: Place, container: str) -> str:
        return place.ip(container, "own")


@pytest.fixture(scope="module")
def hosts(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Hosts]:
    with ExitStack() as stack:
        places = []
        for name, number in (("near", 3), ("far", 4)):
            same = ("--bip", f"10.{session.slot}.30.1/24")
            with or_left_out():
                engine = engines.another(session, name, number, *same)
            stack.callback(engine.close)
            places.append(Place(engine, tmp_path_factory.mktemp(name), stack))
        networks = {}
        for place in places:
            place.engine.docker("network", "create", *NO_MASQUERADE, "own")
            form = "{{(index .IPAM.Config 0).Subnet}}"
            networks[place.address] = place.engine.docker("network", "inspect", "-f", form, "own")
            # Docker lets nobody in from beyond the host unless it is told to
            run(need("iptables", "iptables"), "-w", "-I", "DOCKER-USER", "-j", "ACCEPT", prefix=place.enter)
            run(need("iptables", "iptables"), "-w", "-P", "FORWARD", "ACCEPT", prefix=place.enter)
        stack.enter_context(forwarding())
        hosts = Hosts(places[0], places[1], networks)
        for place in places:  # an engine of this machine may have left the policy to drop all
            let_through = ("-i", hosts.link_of(place), "-j", "ACCEPT")
            run(need("iptables", "iptables"), "-w", "-I", "FORWARD", *let_through)
            stack.callback(run, need("iptables", "iptables"), "-w", "-D", "FORWARD", *let_through)
        hosts.route()
        server = hosts.serve()
        hosts.serve(port=PUBLISHED, host_address=hosts.far.address)
        for port in (53, PUBLISHED):
            until(
                lambda port=port: hosts.near.host("nobody.docker", port=port).status == "NXDOMAIN",  # type: ignore[misc]
                message=lambda: server.log_text,
            )
        yield hosts


@pytest.fixture
def made(hosts: Hosts) -> Generator[tuple[Containers, Containers]]:
    both = Containers(hosts.near.engine), Containers(hosts.far.engine)
    yield both
    for each in both:
        each.close()


def test_each_is_a_source_and_askers_get_what_they_reach(
    hosts: Hosts, made: tuple[Containers, Containers], unique: Callable[[str], str]
) -> None:
    near, far = made
    service, only, here, there = unique("web"), unique("only"), unique("here"), unique("there")
    label = ("--network", "own", "--label", f"discoverd.service={service}")
    near.run(here, *label)
    far.run(there, *label)
    far.run(only, "--network", "own", "--publish", "80", "--expose", "80", command=WEB)
    mine, theirs = hosts.ip(hosts.near, here), hosts.ip(hosts.far, there)
    name = f"{service}.docker"
    wait(lambda: hosts.near.host(name), {mine, theirs})
    wait(lambda: hosts.near.lan(name), {mine, theirs})
    # a container is known by its address on either host: it gets the one that it shares a network with
    assert hosts.near.inside(here, name, server=hosts.near.address).addresses == {mine}
    assert hosts.far.inside(there, name, server=hosts.near.address).addresses == {theirs}
    # and what only the other host has: routed, or by published port where the host's address is known
    address = hosts.ip(hosts.far, only)
    wait(lambda: hosts.near.inside(here, f"{only}.docker", server=hosts.near.address), {address})
    fetch = ("exec", here, "wget", "-q", "-O", "-")
    hostname = hosts.far.engine.docker("exec", only, "hostname")
    assert hosts.near.engine.docker(*fetch, f"http://{address}/") == hostname

    asked = {"server": hosts.near.address, "port": PUBLISHED}
    reply = hosts.near.inside(here, f"{only}.docker", "SRV", **asked)  # type: ignore[arg-type]
    (record,) = reply.answer
    port = record.data.split()[2]
    assert [r.data for r in reply.additional if r.type == "A"] == [hosts.far.address], reply.text
    assert hosts.near.engine.docker(*fetch, f"http://{hosts.far.address}:{port}/") == hostname
    # on its own host it is reached directly, and what publishes nothing is reached from there alone
    inside = hosts.far.inside(there, f"{only}.docker", **asked)  # type: ignore[arg-type]
    assert inside.addresses == {address}
    assert hosts.near.host(f"{there}.docker", port=PUBLISHED).nodata
    assert hosts.near.host(name, port=PUBLISHED).addresses == {mine}


def test_one_range_on_both_hosts(
    hosts: Hosts, made: tuple[Containers, Containers], unique: Callable[[str], str]
) -> None:
    near, far = made
    here, there = unique("here"), unique("there")
    near.run(here)
    far.run(there, "--publish", "80", "--expose", "80")
    assert hosts.near.ip(here) == hosts.far.ip(there), "each engine gives its first container one address"
    asker = unique("asker")
    near.run(asker)
    gateway = hosts.near.gateway("bridge")
    wait(lambda: hosts.near.host(f"{here}.docker"), {hosts.near.ip(here)})
    # the asker is the near one's, whatever the far engine has at its address
    far.run(unique("twin"))
    wait(lambda: hosts.near.inside(asker, f"{here}.docker", server=gateway), {hosts.near.ip(here)})
    # the far one's address would lead to the near one's container
    for port, address in ((53, set[str]()), (PUBLISHED, {hosts.far.address})):
        wait(lambda port=port: hosts.near.host(f"{there}.docker", port=port), address)  # type: ignore[misc]
        reply = hosts.near.inside(asker, f"{there}.docker", server=gateway, port=port)
        assert (reply.status, reply.addresses) == ("NOERROR", address), reply.text


def test_one_cut_off_and_healed(
    hosts: Hosts, made: tuple[Containers, Containers], unique: Callable[[str], str]
) -> None:
    near, far = made
    stays, ends, late, other = (unique(name) for name in ("stays", "ends", "late", "other"))
    label = ("--network", "own", "--label", "discoverd.ttl=300")
    for name in (stays, ends):
        far.run(name, *label)
        wait(lambda name=name: hosts.near.host(f"{name}.docker"), {hosts.ip(hosts.far, name)})  # type: ignore[misc]
    known = {name: hosts.ip(hosts.far, name) for name in (stays, ends)}
    hosts.cut()
    try:
        far.engine.docker("rm", "--force", ends)
        far.run(late, "--network", "own")
        # noticed without a word from the other end: what is known stays, and not for long in caches
        until(
            lambda: {r.ttl for r in hosts.near.host(f"{stays}.docker").answer} == {5},
            timeout=120,
            message=lambda: hosts.near.host(f"{stays}.docker").text,
        )
        for name, address in known.items():
            assert hosts.near.host(f"{name}.docker").addresses == {address}
        # the other engine is followed as before
        near.run(other, *label)
        wait(lambda: hosts.near.host(f"{other}.docker"), {hosts.ip(hosts.near, other)})
        assert {r.ttl for r in hosts.near.host(f"{other}.docker").answer} == {300}
    finally:
        hosts.heal()
    wait(lambda: hosts.near.host(f"{late}.docker"), {hosts.ip(hosts.far, late)}, timeout=60)
    wait(lambda: hosts.near.host(f"{ends}.docker"), set())
    reply = hosts.near.host(f"{stays}.docker")
    assert (reply.addresses, {r.ttl for r in reply.answer}) == ({known[stays]}, {300})


def test_a_reload_that_changes_an_engine_keeps_what_is_known(
    own_engine: HostedEngine, discoverd: Callable[..., Server], tmp_path: Path
) -> None:
    own_engine.run("one", "--label", "discoverd.name=further")
    table = f'[[docker]]\nurl = "{own_engine.url}"\n'
    server = discoverd(config=table, env={"DISCOVERD_DOCKER": ""})
    server.wait_source("live")
    (inspected,) = own_engine.inspect("one")
    mine = {inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]}
    server.wait_answer("one.docker", mine)
    with contextlib.ExitStack() as stack:
        own_engine.freeze()  # it cannot say anything while the new settings come into force
        stack.callback(own_engine.thaw)
        (tmp_path / "discoverd0" / "discoverd.toml").write_text(table + "only_enabled = true\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_source("syncing")
        for name in ("one.docker", "further.docker"):
            assert server.dig(name).addresses == mine
        assert server.dig("two.docker").status == "SERVFAIL", "it may exist by now"
    server.wait_source("live")
    server.wait_answer("one.docker", set())


def test_one_behind_tls(
    engine_host: Callable[..., HostedEngine],
    session: Session,
    discoverd: Callable[..., Server],
    tmp_path: Path,
) -> None:
    """The engine checks its clients, and they check it; each other way is one line."""
    number = 6
    address = f"10.{session.slot}.{number}.2"
    with or_left_out():
        mine, other = Authority(tmp_path / "mine"), Authority(tmp_path / "other", "other authority")
    own, client = mine.sign("engine", f"IP:{address}"), mine.sign("client")
    checked = ("--tlsverify", "--tlscacert", mine.ca, "--tlscert", own.cert, "--tlskey", own.key)
    engine = engine_host("tls", number, *checked)
    engine.run("one")
    (inspected,) = engine.inspect("one")
    one = {inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]}
    url = f"tcp://{address}:2375"
    shown = f'tls_cert = "{client.cert}"\ntls_key = "{client.key}"\n'

    def server(ca: str, pair: str) -> Server:
        table = f'[[docker]]\nurl = "{url}"\ntls_ca = "{ca}"\n{pair}'
        return discoverd(config=table, env={"DISCOVERD_DOCKER": ""})

    good = server(mine.ca, shown)
    good.wait_source("live")
    good.wait_answer("one.docker", one)
    for ca, pair, said in (
        (mine.ca, "", "client certificate"),  # told so, or cut off where the request was on its way
        (other.ca, shown, f"TLS with {url} failed: its certificate is refused, "),
    ):
        bad = server(ca, pair)
        error = until(lambda bad=bad: str(bad.source().get("last_error") or ""))  # type: ignore[misc]
        assert said in error
        assert "\n" not in error
        assert bad.source()["state"] == "syncing"
