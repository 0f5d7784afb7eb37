"""Configurations of other name servers in docs/recipes.md, each read by that server and asked through it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

from tests.documents import page
from tests.real.compose import socket_of
from tests.real.conftest import or_left_out
from tests.real.debian import REPO, codename, fetch, need, which
from tests.real.engine import HostedEngine
from tests.real.images import bases, provide
from tests.real.nsd import free_port
from tests.real.upstreams import Program, dnsmasq
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.engine import Engine
    from tests.real.server import Server

EXAMPLE = (REPO / "examples" / "discoverd.toml").read_text(encoding="utf-8")
WEB = {"192.0.2.11", "192.0.2.12", "192.0.2.13"}


def recipe(language: str, section: str) -> str:
    (found,) = (b for b in page("docs/recipes.md").blocks if b.language == language and b.section == section)
    return found.text


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


def test_discoverd_in_a_container(engine: Engine, unique: Callable[[str], str]) -> None:
    """With plain Docker, as it is written; names, addresses and the socket are this machine's."""
    # an engine of this run's own has it already where the Compose example was run before
    if not (isinstance(engine, HostedEngine) and engine.has_image("discoverd")):
        with or_left_out():
            provide(engine, *bases((REPO / "Dockerfile").read_text()))
        engine.docker("build", "--quiet", "--tag", "discoverd", str(REPO), timeout=280)
    name, network, spare = unique("named"), unique("discovery"), engine.spare_network()
    socket = socket_of(engine).get("DOCKER_SOCKET", "/var/run/docker.sock")
    label = f"--label {engine.session.label}"
    text = recipe("sh", "discoverd in a container")
    for old, new in (
        ("/var/run/docker.sock)", f"{socket})"),
        ("--volume /var/run/docker.sock:", f"--volume {socket}:"),
        ("--volume discoverd:", f"--volume {name}:"),
        ("10.53.53.", f"{spare}."),
        ("--name discoverd", f"--name {name}"),
        ("discoverd.docker", f"{name}.docker"),
        ("create --subnet", f"create {label} --subnet"),
        ("--network discovery", f"--network {network}"),
        ("/24 discovery", f"/24 {network}"),
        ("busybox", engine.image),
    ):
        assert old in text
        text = text.replace(old, new)
    *begin, ask = text.replace("\\\n", " ").splitlines()
    shell = {"env": engine.env, "shell": True, "capture_output": True, "text": True}
    try:
        for line in begin:
            done = subprocess.run(line, check=False, timeout=120, **shell)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr
        until(
            lambda: (
                f"Address: {spare}.53"
                in subprocess.run(ask, check=False, timeout=60, **shell).stdout.replace("\t", " ")  # type: ignore[call-overload]
            ),
            message=lambda: engine.docker("logs", name, check=False),
        )
    finally:
        engine.docker("rm", "--force", name, check=False)
        engine.docker("network", "rm", network, check=False)
        engine.docker("volume", "rm", name, check=False)
