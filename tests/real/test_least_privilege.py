"""discoverd behind a real proxy that lets through the calls which docs/docker.md lists, and nothing else."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import REPO, which
from tests.real.proxy import SocketProxy
from tests.real.swarm import PATIENCE, swarm_of
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine, HostedEngine
    from tests.real.server import Server
    from tests.real.session import Session

CONFIG = '[[docker]]\nurl = "{}"\nresync_seconds = 5\n'


def documented() -> tuple[set[str], set[str]]:
    """The calls that the page lists: those to any engine, and those to a swarm's nodes beyond them."""
    page = (REPO / "docs" / "docker.md").read_text()
    chapter = page.partition("## Calls")[2].partition("\n## ")[0]
    plain, _, swarm = chapter.partition("node of a swarm")

    def calls(text: str) -> set[str]:
        rows = re.findall(r"^\| (`/[^|]+) \|", text, re.MULTILINE)
        return {call for row in rows for call in re.findall(r"`(/[^`]+)`", row)}

    return calls(plain), calls(swarm)


PLAIN, SWARM = documented()
#: What proxies allow together with ``/networks``.
NETWORK = {"/networks/docker_gwbridge"}


@pytest.fixture
def proxied(tmp_path: Path) -> Generator[Callable[..., SocketProxy]]:
    made: list[SocketProxy] = []

    def start(engine: Engine, paths: set[str]) -> SocketProxy:
        with or_left_out():
            made.append(SocketProxy(tmp_path / f"proxy{len(made)}", engine.url, sorted(paths)))
        return made[-1]

    yield start
    for proxy in made:
        proxy.close()


def refused(proxy: SocketProxy, path: str, method: str = "GET") -> bool:
    command = [which("curl") or "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]
    done = subprocess.run(
        [*command, "--unix-socket", str(proxy.socket), f"http://engine{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout == "403"


def test_a_plain_engine(
    engine: Engine,
    containers: Containers,
    unique: Callable[[str], str],
    discoverd: Callable[..., Server],
    proxied: Callable[..., SocketProxy],
) -> None:
    # all that a swarm would be asked is allowed as well, so that it would be seen
    proxy = proxied(engine, PLAIN | SWARM)
    server = discoverd(docker=proxy.url, config=CONFIG.format(proxy.url))
    server.wait_source("live")
    name, network = unique("least"), unique("net")
    containers.network(network)
    check = ("--health-cmd", "true", "--health-interval", "0.2s")
    containers.run(name, *check)
    server.wait_answer(f"{name}.docker", {address(engine, name, "bridge")})
    engine.docker("network", "connect", network, name)
    server.wait_answer(f"{name}.{network}.docker", {address(engine, name, network)})
    engine.docker("rename", name, f"{name}x")
    server.wait_answer(f"{name}x.{network}.docker", {address(engine, f"{name}x", network)})
    engine.docker("rm", "--force", f"{name}x")
    server.wait_answer(f"{name}x.docker", set())
    server.terminate()
    assert {call.path for call in proxy.calls} == PLAIN
    assert {call.status for call in proxy.calls} <= {200, 404}  # what is gone is asked for once more
    # and the proxy is one
    assert refused(proxy, "/info")
    assert refused(proxy, "/images/json")
    assert refused(proxy, "/containers/json", "POST")


def test_a_swarm(
    own_engine: HostedEngine,
    session: Session,
    tmp_path: Path,
    discoverd: Callable[..., Server],
    proxied: Callable[..., SocketProxy],
) -> None:
    whole, less = proxied(own_engine, PLAIN | SWARM), proxied(own_engine, PLAIN | NETWORK)
    namespace = own_engine.daemon.namespace
    assert namespace
    with swarm_of(own_engine, namespace.address, f"10.{session.slot}.112.0/20", tmp_path) as swarm:
        servers = {
            proxy: discoverd(docker=proxy.url, config=CONFIG.format(proxy.url)) for proxy in (whole, less)
        }
        for server in servers.values():
            server.wait_source("live")
        swarm.deploy("shop", "services:\n  api: {image: IMAGE, deploy: {replicas: 2}}\n")
        swarm.wait_tasks("shop_api", 2)
        tasks = swarm.addresses("shop_api", "shop_default")
        virtual = {swarm.virtual_ip("shop_api", "shop_default")}
        servers[whole].wait_answer("api.shop.docker", virtual, timeout=PATIENCE)
        servers[whole].wait_answer("tasks.api.shop.docker", tasks, timeout=PATIENCE)
        assert {call.path for call in whole.calls} == PLAIN | SWARM
        # without these calls, the tasks' containers on this node are served by their labels
        servers[less].wait_answer("api.shop.docker", tasks, timeout=PATIENCE)
        servers[less].wait_answer("tasks.api.shop.docker", tasks)
        asked = sum(call.path == "/services" for call in less.calls)
        until(lambda: sum(call.path == "/services" for call in less.calls) > asked + 1)
        for server in servers.values():
            server.terminate()
        assert {call.status for call in whole.calls} <= {200, 404}
        assert {call.path for call in less.calls if call.status == 403} <= SWARM
        lines = [line for line in servers[less].log_text.splitlines() if "403" in line]
        assert len(lines) == 1, servers[less].log_text
        assert "Swarm services are not watched" in lines[0]


def address(engine: Engine, name: str, network: str) -> str:
    (found,) = engine.inspect(name)
    return str(found["NetworkSettings"]["Networks"][network]["IPAddress"])
