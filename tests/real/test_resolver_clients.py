"""Servers that find the instances of a service by discoverd, with the configurations of examples/."""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import REPO, need
from tests.real.nsd import free_port
from tests.real.server import Server
from tests.real.upstreams import Program, unbound
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Addresses of instances; all of them on loopback, and on one port as containers are.
INSTANCES = ("127.77.6.1", "127.77.6.2", "127.77.6.3")


class Says(http.server.BaseHTTPRequestHandler):
    """An instance that says where it is."""

    def do_GET(self) -> None:
        said = str(self.connection.getsockname()[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def instance(address: str, port: int) -> Iterator[None]:
    made = http.server.ThreadingHTTPServer((address, port), Says)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "discoverd")
    try:
        made.wait_listening()
        yield made
    finally:
        made.close()


def free_on_all() -> int:
    """A port that is free at each instance's address."""
    port = free_port()
    for address in INSTANCES:
        with socket.socket() as sock:
            sock.bind((address, port))
    return port


def example(path: str, folder: Path, replaced: dict[str, str]) -> Path:
    """An example's configuration with other addresses and ports."""
    text = (REPO / "examples" / path).read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    made = folder / path.replace("/", "-")
    made.write_text(text)
    return made


def register(server: Server, address: str, port: int) -> None:
    body = {"service": "web", "addresses": [address], "ports": [f"http={port}"]}
    assert server.api(f"/v1/instances/web-{address}", "PUT", body).status in (200, 201)


def deregister(server: Server, address: str) -> None:
    assert server.api(f"/v1/instances/web-{address}", "DELETE").status == 204


def reached(port: int, count: int) -> Counter[str]:
    """Who answers so many requests; errors count under their status."""
    found: Counter[str] = Counter()
    for _ in range(count):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as reply:
                found[reply.read().decode()] += 1
        except (urllib.error.HTTPError, OSError) as error:
            found[str(getattr(error, "code", error))] += 1
    return found


def wait_only(port: int, addresses: set[str], proxy: Program) -> None:
    """Until requests reach all of these instances and nobody else."""

    def right() -> bool:
        return set(reached(port, 12)) == addresses

    until(
        right, message=lambda: f"{addresses} are reached: {reached(port, 12)}\n{proxy.output}", interval=0.2
    )


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_traffic_arrives_at_live_instances_only(tmp_path: Path, server: Server, name: str) -> None:
    """Scaled up, down, to nothing and up again; an instance leaves the answers before it ends."""
    front, port = free_port(), free_on_all()
    where = f"127.0.0.1:{server.dns_port}"
    with or_left_out():
        program = need(name, "nginx-light" if name == "nginx" else name)
    folder = tmp_path / name
    folder.mkdir()
    replaced = {"127.0.0.1:1053": where, "127.0.0.1:8080": f"127.0.0.1:{front}"}
    if name == "nginx":
        config = example("nginx/nginx.conf", folder, {**replaced, ":8000": f":{port}"})
        words = ["-c", str(config), "-p", str(folder), "-g", f"daemon off; pid {folder}/pid; user root;"]
        words += ["-e", str(folder / "error.log")]
    else:
        words = ["-db", "-f", str(example("haproxy/haproxy.cfg", folder, replaced))]
    first, second, third = INSTANCES
    with ExitStack() as stack:
        for address in (first, second):
            stack.enter_context(instance(address, port))
            register(server, address, port)
        proxy = stack.enter_context(Program(folder, "127.0.0.1", front, program, *words))
        wait_only(front, {first, second}, proxy)
        with instance(third, port):
            register(server, third, port)
            wait_only(front, {first, second, third}, proxy)
            deregister(server, third)
            wait_only(front, {first, second}, proxy)
        assert set(reached(front, 20)) == {first, second}
        deregister(server, first)
        deregister(server, second)
        until(
            lambda: set(reached(front, 3)) <= {"502", "503"}, message="nobody is left to answer", interval=0.2
        )
        register(server, second, port)
        wait_only(front, {second}, proxy)


def test_unbound_asks_discoverd_for_the_domain(tmp_path: Path, server: Server) -> None:
    config = example("unbound/unbound.conf", tmp_path, {"127.0.0.1@1053": f"127.0.0.1@{server.dns_port}"})
    register(server, INSTANCES[0], 80)
    with or_left_out():
        resolver = unbound(tmp_path / "unbound", zones=f'include: "{config}"')
    with resolver:
        resolver.wait_answers("web.docker")
        for addresses in (INSTANCES[:1], INSTANCES, INSTANCES[1:2]):
            for address in INSTANCES:
                if address in addresses:
                    register(server, address, 80)
                else:
                    server.api(f"/v1/instances/web-{address}", "DELETE")
            until(lambda: resolver.dig("web.docker").addresses == set(addresses), message=f"{addresses}")  # noqa: B023
        assert resolver.dig("_http._tcp.web.docker", "SRV").answer
        assert resolver.dig("nobody.docker").status == "NXDOMAIN"
