"""Two hosts, each with an engine, a discoverd and a Consul agent, and three Consul servers between them.

What runs on one is found and reached from the other, whoever dies or is cut off meanwhile. Each
host is a network namespace; they meet on a switch that tests can part.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.conftest import MEASURED
from tests.real import engine as engines
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.consul import ConsulCluster, Spot
from tests.real.lan import Lan
from tests.real.place import Place, containers_of, wait
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.consul import ConsulAgent
    from tests.real.server import Server
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.consul, pytest.mark.timeout(TIMEOUT)]

#: Services whose pauses are timed, each with its end, and how often: one that changes again and again would
#: be read once a second only.
SERVICES, PAUSES = 10, 3
#: Seconds: hosts that were parted look for each other every half minute (Serf's reconnect interval).
REJOINED = 120.0
HTTPD = "echo {name} > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


@dataclass
class Host:
    """One of the two. ``address`` is its own on the network between them."""

    place: Place
    made: Containers
    agent: ConsulAgent
    server: Server
    address: str
    ports: dict[str, int] = field(default_factory=dict)

    def run(self, name: str) -> None:
        """A service of one container, which says its own name at a published port."""
        self.ports.setdefault(name, 8080 + len(self.ports))
        command = ("sh", "-c", HTTPD.format(name=name))
        self.made.run(name, "--publish", f"{self.ports[name]}:80", "--stop-timeout", "0", command=command)

    def remove(self, name: str) -> None:
        self.place.engine.docker("rm", "--force", name)

    def has(self, name: str, host: Host | None) -> None:
        """Wait until a service's names lead to a host, for who asks here; or to none."""
        if host is not None and host is not self:
            wait(lambda: self.place.host(f"{name}.docker"), {host.address}, REJOINED)
        until(
            lambda: self.consul(name) == ({host.address} if host else set()),
            timeout=REJOINED,
            message=lambda: f"{name}.service.consul is right, it is {self.consul(name)}",
        )

    def consul(self, name: str) -> set[str]:
        """The addresses that Consul's name for a service has here."""
        return self.place.host(f"{name}.service.consul").addresses

    def registered(self) -> set[str]:
        """The services that discoverd has registered with this host's agent."""
        found = self.agent.api("/v1/agent/services").json
        return {each["Service"] for each in found.values() if each["ID"].startswith("discoverd:")}


@dataclass
class Hosts:
    """``apples`` is a service of ``a`` alone, ``pears`` one of ``b``."""

    lan: Lan
    cluster: ConsulCluster
    a: Host
    b: Host

    def in_step(self) -> None:
        """Wait until both know both services, and say that they are current."""
        for host in (self.a, self.b):
            host.server.wait_source("live", "consul", timeout=REJOINED)
        self.a.has("pears", self.b)
        self.b.has("apples", self.a)

    def answer_each_other(self) -> bool:
        return self.a.consul("pears") == {self.b.address} and self.b.consul("apples") == {self.a.address}


@pytest.fixture(scope="module")
def hosts(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        with or_left_out():
            lan = Lan(session, 6)
        stack.callback(lan.close)
        places, spots = [], {}
        for name, number in (("a", 4), ("b", 5)):
            with or_left_out():
                engine = engines.another(session, f"lan-{name}", number)
            stack.callback(engine.close)
            place = Place(engine, folder / name, stack)
            assert place.daemon.namespace
            with or_left_out():
                address = lan.join(place.daemon.namespace)
            places.append(place)
            spots[name] = Spot(address, place.address, place.enter)
        with or_left_out():
            cluster = ConsulCluster(folder / "consul", Spot(lan.address, lan.reach, lan.enter), spots)
        stack.callback(cluster.close)
        cluster.start()
        both = []
        for place, agent, spot in zip(places, cluster.clients, spots.values(), strict=True):
            server = place.serve(
                *("--consul", f"http://127.0.0.1:{agent.http_port}"),
                http=f"{place.address}:8053",
                config=f'host_address = "{spot.address}"\n[consul]\nexport = true\n',
            )
            made = stack.enter_context(containers_of(place))
            both.append(Host(place, made, agent, server, spot.address))
        hosts = Hosts(lan, cluster, *both)
        hosts.a.run("apples")
        hosts.b.run("pears")
        hosts.in_step()
        yield hosts


def test_a_container_finds_and_reaches_what_runs_only_on_the_other_host(hosts: Hosts) -> None:
    a, b = hosts.a, hosts.b
    network = a.made.network("shop")
    a.made.run("client", "--network", network, "--dns", a.place.gateway("shop"))
    wait(lambda: a.place.inside("client", "pears.docker"), {b.address})
    srv = a.place.inside("client", "pears.docker", "SRV")
    assert [line.split()[2] for line in srv.data] == [str(b.ports["pears"])]
    url = f"http://pears.docker:{b.ports['pears']}/"
    assert a.place.engine.docker("exec", "client", "wget", "-q", "-O", "-", url) == "pears"
    # there it is one container of that host, and not also what was registered of it
    wait(lambda: b.place.host("pears.docker"), {b.place.ip("pears")})
    assert hosts.answer_each_other()


def test_a_change_there_is_answered_here(
    hosts: Hosts, record_property: Callable[[str, object], None]
) -> None:
    hosts.in_step()
    a, b = hosts.a, hosts.b
    names = [f"plum{number}" for number in range(SERVICES)]
    for name in names:
        a.run(name)
    for name in names:
        b.has(name, a)

    ports = {53: "discoverd", b.agent.dns_port: "Consul's own DNS"}

    def answered(name: str, rcode: dns.rcode.Rcode) -> dict[str, float]:
        """When each of the two name servers over there had the right answer."""
        question = dns.message.make_query(f"{name}.service.consul", "A")
        times: dict[str, float] = {}

        def all_are_right() -> bool:
            for port, who in ports.items():
                if who not in times:
                    reply = dns.query.udp(question, b.place.address, port=port, timeout=10)
                    if reply.rcode() == rcode:
                        times[who] = time.time()
            return len(times) == len(ports)

        until(all_are_right, interval=0.001, message=f"{name} is {dns.rcode.to_text(rcode)} over there")
        return times

    began, right = time.time(), []
    for _ in range(PAUSES):
        for name in names:
            a.place.engine.docker("pause", name)
            right.append(answered(name, dns.rcode.NXDOMAIN))
            a.place.engine.docker("unpause", name)
            right.append(answered(name, dns.rcode.NOERROR))
    wanted = ("--filter", "event=pause", "--filter", "event=unpause")
    span = ("--since", f"{began:.6f}", "--until", f"{time.time():.6f}")
    happened = a.place.engine.docker("events", *span, *wanted, "--format", "{{.TimeNano}}").splitlines()
    for who in ports.values():
        took = sorted((t[who] - int(nano) / 1e9) * 1000 for t, nano in zip(right, happened, strict=True))
        record_property(
            f"{MEASURED}ms from an event of one host's engine to the right answer of {who} on the other host",
            f"p50 {took[len(took) // 2]:.0f} p99 {took[int(len(took) * 0.99)]:.0f}",
        )
    for name in names:
        a.remove(name)


def test_a_host_that_is_cut_off_goes_on_from_what_it_knew(
    hosts: Hosts, record_property: Callable[[str, object], None]
) -> None:
    hosts.in_step()
    a, b = hosts.a, hosts.b
    hosts.lan.cut(b.address)
    said = b.server.wait_source("stale", "consul", timeout=60)
    assert said["last_error"]
    for name in ("apples.docker", "apples.service.consul"):
        reply = b.place.host(name)
        assert reply.addresses == {a.address}, reply.text
        assert max(record.ttl for record in reply.answer) <= 5
    assert b.place.host("pears.docker").addresses == {b.place.ip("pears")}
    # Consul itself says that the host is gone; whoever asks for the service is still told the last known
    a.has("pears", None)
    assert a.place.host("pears.docker").addresses == {b.address}
    assert a.server.source("consul")["state"] == "live"
    a.run("figs")
    b.run("nuts")
    a.has("figs", a)
    b.remove("pears")
    assert b.server.source("consul")["state"] == "stale"
    assert b.consul("apples") == {a.address}

    hosts.lan.heal(b.address)
    healed = time.monotonic()
    b.server.wait_source("live", "consul", timeout=REJOINED)
    b.has("figs", a)
    a.has("nuts", b)
    a.has("pears", None)
    record_property(
        f"{MEASURED}seconds from the end of a partition until both hosts are in step",
        round(time.monotonic() - healed, 1),
    )
    b.run("pears")
    a.remove("figs")
    b.remove("nuts")
    hosts.in_step()
    b.has("figs", None)
    a.has("nuts", None)


def test_the_servers_elect_and_answers_go_on(
    hosts: Hosts, record_property: Callable[[str, object], None]
) -> None:
    hosts.in_step()
    leader = hosts.cluster.leader()
    asked = 0

    def leads_another() -> bool:
        nonlocal asked
        assert hosts.answer_each_other(), "what was known stays"
        asked += 1
        try:
            return hosts.cluster.leader() is not leader
        except (LookupError, OSError):
            return False

    leader.kill()
    died = time.monotonic()
    until(leads_another, timeout=60, message="another server leads")
    hosts.a.run("figs")
    hosts.b.has("figs", hosts.a)
    record_property(
        f"{MEASURED}seconds from the death of Consul's leader to the next change's answer on the other host",
        round(time.monotonic() - died, 1),
    )
    assert asked
    assert hosts.answer_each_other()
    leader.start()
    hosts.a.remove("figs")
    hosts.b.has("figs", None)
    hosts.in_step()


def test_an_agent_restarts_and_both_are_in_step_again(hosts: Hosts) -> None:
    hosts.in_step()
    a, b = hosts.a, hosts.b
    b.agent.kill()
    b.server.wait_source("stale", "consul")
    assert b.place.host("apples.docker").addresses == {a.address}
    assert b.consul("apples") == {a.address}
    b.remove("pears")
    b.run("nuts")
    a.run("figs")
    b.agent.start()
    b.has("figs", a)
    a.has("nuts", b)
    a.has("pears", None)
    assert b.registered() == {"nuts"}
    a.remove("figs")
    b.remove("nuts")
    b.run("pears")
    hosts.in_step()
    assert (a.registered(), b.registered()) == ({"apples"}, {"pears"})
