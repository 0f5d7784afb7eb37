"""What programs resolve by: glibc, c-ares and others, as they are on this machine, with discoverd alone in
resolv.conf. In containers: test_clients_matrix.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import which
from tests.real.server import Server
from tests.real.upstreams import dnsmasq
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="it takes root to have a resolv.conf and port 53 of one's own"
)

HOST = "127.53.6.9"
MANY = 150
CONFIG = """
[[service]]
name = "web"
addresses = ["192.0.2.1", "192.0.2.2"]

[[service]]
name = "many"
addresses = [{many}]
"""
#: What prints the addresses of a name, which stands in the last word.
#: getent would ask for addresses only where there is more than loopback.
PYTHON = "import socket, sys; print(socket.getaddrinfo(sys.argv[1], 80))"
NODE_LOOKUP = (
    "require('dns').lookup(process.argv[1], {all: true},"
    " (e, a) => console.log(e ? e.code : JSON.stringify(a)))"
)
NODE_RESOLVE = (
    "require('dns').resolve4(process.argv[1], (e, a) => console.log(e ? e.code : JSON.stringify(a)))"
)
GO = """package main

import ("fmt"; "net"; "os")

func main() { fmt.Println(net.LookupHost(os.Args[1])) }
"""
JAVA = """public class Ask {
  public static void main(String[] names) throws Exception {
    for (var address : java.net.InetAddress.getAllByName(names[0])) System.out.println(address);
  }
}
"""
LIBRARIES: dict[str, tuple[str, ...]] = {
    "glibc": (sys.executable, "-c", PYTHON),
    "node's getaddrinfo": ("node", "-e", NODE_LOOKUP),
    "c-ares": ("node", "-e", NODE_RESOLVE),
    "go": ("go", "run", "ask.go"),
    "java": ("java", "Ask.java"),
}


@contextmanager
def resolving(folder: Path, upstream: str) -> Iterator[Server]:
    many = ", ".join(f'"198.51.100.{number}"' for number in range(1, MANY + 1))
    env = {"DISCOVERD_UPSTREAM": upstream}
    server = Server(folder / "discoverd", listen=f"{HOST}:53", config=CONFIG.format(many=many), env=env)
    try:
        server.wait_listening()
        yield server
    finally:
        server.close()


def ask(folder: Path, library: str, name: str) -> str:
    """What a program says of a name where discoverd is the only server."""
    (folder / "resolv.conf").write_text(f"nameserver {HOST}\nsearch shop.docker docker\noptions ndots:1\n")
    (folder / "ask.go").write_text(GO)
    (folder / "Ask.java").write_text(JAVA)
    mounted = 'mount --bind resolv.conf /etc/resolv.conf && exec "$0" "$@"'
    env = {**os.environ, "GODEBUG": "netdns=go", "GO111MODULE": "off", "GOFLAGS": ""}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, *LIBRARIES[library], name],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_of_all_kinds_resolve(tmp_path: Path, library: str) -> None:
    """With the domain, by the search list, too many for a datagram, somebody else's, nobody's."""
    if not which(LIBRARIES[library][0]):
        pytest.skip(f"no {LIBRARIES[library][0]} on this machine")
    with or_left_out():
        upstream = dnsmasq(tmp_path / "dnsmasq", "--address=/example.org/203.0.113.7")
    with upstream:
        upstream.wait_answers("www.example.org")
        with resolving(tmp_path, upstream.where):
            said = {name: ask(tmp_path, library, name) for name in ("web.docker", "web", "www.example.org")}
            for name in ("web.docker", "web"):
                assert "192.0.2.1" in said[name], said[name]
                assert "192.0.2.2" in said[name], said[name]
            assert "203.0.113.7" in said["www.example.org"], said["www.example.org"]
            many = ask(tmp_path, library, "many.docker")
            assert all(f"198.51.100.{number}" in many for number in range(1, MANY + 1)), many
            nobody = ask(tmp_path, library, "nobody.docker")
            assert "192.0.2" not in nobody
            assert "203.0.113" not in nobody


def test_names_resolve_again_after_a_restart_and_an_outage(tmp_path: Path) -> None:
    """By glibc, whose patience is that of most programs."""
    with or_left_out():
        upstream = dnsmasq(tmp_path / "dnsmasq", "--address=/example.org/203.0.113.7", "--local-ttl=1")
    with upstream:
        upstream.wait_answers("www.example.org")
        for _ in range(2):
            with resolving(tmp_path, upstream.where):
                assert "192.0.2.1" in ask(tmp_path, "glibc", "web")
                assert "203.0.113.7" in ask(tmp_path, "glibc", "www.example.org")
                upstream.close()
                assert "192.0.2.1" in ask(tmp_path, "glibc", "web"), "names of ours need nobody else"
                until(
                    lambda: "203.0.113.7" in ask(tmp_path, "glibc", "www.example.org"),
                    message="what was answered before is answered still",
                )
                upstream.start()
                upstream.wait_answers("www.example.org")
