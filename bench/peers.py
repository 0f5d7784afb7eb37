"""The servers beside discoverd: where each is found, how it is told of the catalog, how it starts.

Every peer serves the same services under the suffix it is used to, on one port of 127.0.0.1, with as
many threads or processes as fit one core: one. What would bound or log the load is turned off.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.catalog import TTL, Catalog
from bench.tools import compiled, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What a peer cannot be asked, by load: it would not answer, or not with what was asked.
FIXED: Final = frozenset({"half unknown", "new unknown", "tcp"})


@dataclass(frozen=True)
class Peer:
    """One kind of server. ``prepare`` writes its configuration and returns the command that runs it."""

    name: str
    suffix: str
    prepare: Callable[[Path, int, Catalog], list[str]]
    #: Programs that it may be called by, the first found is taken; none: part of this project.
    programs: tuple[str, ...] = ()
    #: Debian's package that has it, where there is one.
    package: str = ""
    #: Loads it is left out of.
    cannot: frozenset[str] = frozenset()
    #: It puts itself into the background and leaves its process id in this file.
    pid_file: str = ""

    def find(self) -> str | None:
        """Why this peer cannot take part on this machine, or None. Installs it where it may."""
        if not self.programs or self.program():
            return None
        if self.package and install(self.package) and self.program():
            return None
        where = f"; Debian has it: apt-get install {self.package}" if self.package else ""
        return f"no {self.programs[0]} on this machine{where}"

    def program(self) -> str:
        path = os.pathsep.join(
            [os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/podman", "/usr/libexec/podman"]
        )
        return next((found for name in self.programs if (found := shutil.which(name, path=path))), "")


def discoverd(*flags: str) -> Peer:
    """The shipped server, as a user starts it, with the catalog in its configuration file."""

    def prepare(home: Path, port: int, catalog: Catalog) -> list[str]:
        config = home / "discoverd.toml"
        tables = (
            f'[[service]]\nname = "{name}"\naddresses = {json.dumps(addresses)}\nport = 80\n'
            for name, addresses in catalog.each()
        )
        config.write_text("\n".join(tables))
        listen = [] if "--listen" in flags else ["--listen", f"127.0.0.1:{port}"]
        return [
            *(sys.executable, "-m", "discoverd", "serve", "--config", str(config), *listen),
            *(
                "--docker",
                "off",
                "--consul",
                "off",
                "--upstream",
                "off",
                "--http",
                "off",
                "--state-dir",
                "off",
            ),
            *("--log-level", "warning"),
            *(flag.format(port=port, http=port + 1) for flag in flags),
        ]

    return Peer("discoverd", "docker", prepare)


def composed(*flags: str) -> Peer:
    """discoverd composed by ``bench/churn_server.py``, which changes the registry while it serves."""

    def prepare(_home: Path, port: int, catalog: Catalog) -> list[str]:
        return [
            *(sys.executable, "-m", "bench.churn_server", "--listen", f"127.0.0.1:{port}"),
            *("--services", str(catalog.services), "--instances", str(catalog.instances), *flags),
        ]

    return Peer("discoverd", "docker", prepare)


def _responder(*flags: str) -> Callable[[Path, int, Catalog], list[str]]:
    return lambda _home, port, _catalog: [str(compiled("responder")), "127.0.0.1", str(port), *flags]


def _write_zone(home: Path, catalog: Catalog) -> Path:
    path = home / "docker.zone"
    lines = ["$ORIGIN docker.", f"$TTL {TTL}", "@ SOA ns hostmaster 1 60 60 60 5", "@ NS ns", "ns A 10.0.0.1"]
    lines += [f"{name} A {address}" for name, addresses in catalog.each() for address in addresses]
    path.write_text("\n".join(lines) + "\n")
    return path


def _nsd(home: Path, port: int, catalog: Catalog) -> list[str]:
    _write_zone(home, catalog)
    (home / "nsd.conf").write_text(
        f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  zonesdir: "{home}"
  database: ""
  pidfile: "{home}/pid"
  xfrdfile: "{home}/xfrd.state"
  zonelistfile: "{home}/zone.list"
  round-robin: yes
  minimal-responses: yes
  answer-cookie: yes
  rrl-ratelimit: 0
  tcp-query-count: 0
remote-control:
  control-enable: no
zone:
  name: docker
  zonefile: docker.zone
"""
    )
    return [NSD.program(), "-d", "-c", str(home / "nsd.conf")]


def _unbound(home: Path, port: int, catalog: Catalog) -> list[str]:
    data = [
        f'  local-data: "{name}.docker. {TTL} A {address}"'
        for name, addresses in catalog.each()
        for address in addresses
    ]
    (home / "unbound.conf").write_text(
        f"""server:
  interface: 127.0.0.1@{port}
  num-threads: 1
  do-daemonize: no
  use-syslog: no
  logfile: "{home}/log"
  username: ""
  chroot: ""
  directory: "{home}"
  pidfile: "{home}/pid"
  access-control: 127.0.0.0/8 allow
  module-config: "iterator"
  minimal-responses: yes
  rrset-roundrobin: yes
  incoming-num-tcp: 100
  local-zone: "docker." static
  local-data: "docker. {TTL} SOA ns.docker. hostmaster.docker. 1 60 60 60 5"
"""
        + "\n".join(data)
        + "\nremote-control:\n  control-enable: no\n"
    )
    return [UNBOUND.program(), "-d", "-c", str(home / "unbound.conf")]


def _dnsmasq(home: Path, port: int, catalog: Catalog) -> list[str]:
    hosts = home / "hosts"
    hosts.write_text("".join(f"{a} {name}.docker\n" for name, addresses in catalog.each() for a in addresses))
    return [
        *(DNSMASQ.program(), "--keep-in-foreground", "--conf-file=/dev/null", f"--pid-file={home}/pid"),
        *("--user=" if os.geteuid() else "--user=root", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"),
        *("--local=/docker/", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
        *(f"--local-ttl={TTL}", "--cache-size=10000", "--log-facility=/dev/null"),
    ]


def _aardvark(home: Path, port: int, catalog: Catalog) -> list[str]:
    # one line a container: id, IPv4, IPv6, names. It answers askers that it knows the address of only.
    lines = ["127.0.0.1", "f" * 64 + " 127.0.0.1  asker"]
    endpoints = [(name, address) for name, addresses in catalog.each() for address in addresses]
    lines += [f"{number:064x} {address}  {name}" for number, (name, address) in enumerate(endpoints)]
    networks = home / "networks"  # every file in there is taken for a network
    networks.mkdir()
    (networks / "podman").write_text("\n".join(lines) + "\n")
    return [AARDVARK.program(), "--config", str(networks), "--port", str(port), "run"]


def _consul(home: Path, port: int, catalog: Catalog) -> list[str]:
    services = [
        {"id": f"{name}-{number}", "name": name, "address": address, "port": 80}
        for name, addresses in catalog.each()
        for number, address in enumerate(addresses)
    ]
    ports = {
        "dns": port,
        "http": port + 1,
        "server": port + 2,
        "serf_lan": port + 3,
        "serf_wan": -1,
        "grpc": -1,
    }
    settings = {
        "bind_addr": "127.0.0.1",
        "ports": ports,
        "log_level": "ERR",
        "disable_update_check": True,
        "dns_config": {"service_ttl": {"*": f"{TTL}s"}, "udp_answer_limit": catalog.instances},
        "services": services,
    }
    (home / "consul.json").write_text(json.dumps(settings))
    return [CONSUL.program(), "agent", "-dev", f"-config-file={home / 'consul.json'}"]


def _coredns(home: Path, port: int, catalog: Catalog) -> list[str]:
    zone = _write_zone(home, catalog)
    (home / "Corefile").write_text(
        f"docker.:{port} {{\n  bind 127.0.0.1\n  loadbalance round_robin\n  file {zone} docker\n}}\n"
    )
    return [COREDNS.program(), "-conf", str(home / "Corefile"), "-quiet"]


DISCOVERD = discoverd()
RESPONDER = Peer("C, batched", "docker", _responder(), cannot=FIXED)
SINGLE = Peer("C, one by one", "docker", _responder("--single"), cannot=FIXED)
NSD = Peer("NSD", "docker", _nsd, ("nsd",), "nsd")
UNBOUND = Peer("Unbound", "docker", _unbound, ("unbound",), "unbound")
DNSMASQ = Peer("dnsmasq", "docker", _dnsmasq, ("dnsmasq",), "dnsmasq-base")
AARDVARK = Peer(
    "aardvark-dns",
    "dns.podman",
    _aardvark,
    ("aardvark-dns",),
    "aardvark-dns",
    frozenset({"tcp", "mixed case"}),  # it takes no TCP, and names for different that differ in case
    "networks/aardvark.pid",
)
CONSUL = Peer("Consul", "service.consul", _consul, ("consul",))
COREDNS = Peer("CoreDNS", "docker", _coredns, ("coredns",))

PEERS: Final = (DISCOVERD, RESPONDER, SINGLE, NSD, UNBOUND, DNSMASQ, AARDVARK, CONSUL, COREDNS)
