"""Configurations of other name servers in docs/recipes.md, each read by that server and asked through it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

from tests.real.conftest import or_left_out
from tests.real.debian import REPO, codename, fetch, need, which
from tests.real.nsd import free_port
from tests.real.recipes import recipe
from tests.real.upstreams import Program, dnsmasq

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.server import Server

EXAMPLE = (REPO / "examples" / "discoverd.toml").read_text(encoding="utf-8")
WEB = {"192.0.2.11", "192.0.2.12", "192.0.2.13"}


def named() -> tuple[Path, Path]:
    """BIND's server and its libraries; unpacked, since to install it would start one on port 53."""
    need("dig", "bind9-dnsutils")  # brings what BIND's libraries need
    program = fetch("bind9", codename()) / "usr" / "sbin" / "named"
    (library, *_) = (fetch("bind9-libs", codename()) / "usr" / "lib").glob("*/libdns*.so")
    return program, library.parent


def test_dnsmasq_sends_the_domain_here(discoverd: Callable[..., Server], tmp_path: Path) -> None:
    server = discoverd(config=EXAMPLE)
    text = recipe("conf", "The host, by dnsmasq or NetworkManager")
    assert text.count("127.0.0.1#1053") == 2
    config = tmp_path / "dnsmasq.conf"
    # addresses of the example in the place of Docker's
    changed = text.replace("#1053", f"#{server.dns_port}").replace("172.16.0.0/12", "192.0.2.0/24")
    config.write_text(changed)
    with or_left_out():
        resolver = dnsmasq(tmp_path / "dnsmasq", f"--conf-file={config}")
    with resolver:
        resolver.wait_answers("web.docker")
        assert resolver.dig("web.docker").addresses == WEB
        assert resolver.dig("nobody.docker").status == "NXDOMAIN"
        assert resolver.dig("21.2.0.192.in-addr.arpa", "PTR").data == ["db.shop.docker."]
        assert resolver.dig("www.example.com").status == "REFUSED"


def test_bind_sends_the_domain_here(discoverd: Callable[..., Server], tmp_path: Path) -> None:
    server = discoverd(config=EXAMPLE)
    text = recipe("conf", "A resolver that delegates the domain")
    assert "port 1053;" in text
    own, port = tmp_path / "named", free_port()
    own.mkdir()
    options = [
        f"options {{ directory {json.dumps(str(own))}; listen-on port {port} {{ 127.0.0.1; }};",
        f"listen-on-v6 {{ none; }}; pid-file {json.dumps(f'{own}/pid')}; session-keyfile none;",
    ]
    changed = re.sub(r"^options \{", "\n".join(options), text, flags=re.MULTILINE)
    config = own / "named.conf"
    config.write_text(changed.replace("port 1053;", f"port {server.dns_port};") + "\ncontrols {};\n")
    with or_left_out():
        program, libraries = named()
    command = ("env", f"LD_LIBRARY_PATH={libraries}", str(program), "-g", "-c", str(config))
    with Program(own, "127.0.0.1", port, *command) as resolver:
        resolver.wait_answers("web.docker")
        assert resolver.dig("web.docker").addresses == WEB
        assert resolver.dig("nobody.docker").status == "NXDOMAIN"
        assert len(resolver.dig("_http._tcp.web.docker", "SRV").answer) == 3


def test_nsd_takes_the_zone_that_is_shown(tmp_path: Path) -> None:
    with or_left_out():
        need("nsd", "nsd")
    config = tmp_path / "nsd.conf"
    config.write_text(recipe("conf", "A secondary, by AXFR"))
    done = subprocess.run(
        [which("nsd-checkconf") or "nsd-checkconf", config], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
