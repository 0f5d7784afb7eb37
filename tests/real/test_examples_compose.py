"""The scenarios below examples/ that are Compose projects, run as their READMEs say."""

from __future__ import annotations

import re
import shlex
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import or_left_out
from tests.real.debian import REPO
from tests.real.engine import HostedEngine
from tests.real.nsd import free_port
from tests.real.place import ask
from tests.real.programs import program_image, python_image
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.compose import Compose
    from tests.real.conftest import Containers
    from tests.real.dig import Reply
    from tests.real.server import Server

EXAMPLES = REPO / "examples"
#: What is in the images that stand in for those of a registry, and how it is started there.
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}
COMMANDS = {
    "nginx": 'CMD mkdir -p /var/log/nginx /var/lib/nginx && exec nginx -g "daemon off; user root;"',
    "haproxy": "CMD exec haproxy -db -f /usr/local/etc/haproxy/haproxy.cfg",
}


@dataclass
class Hub:
    """The network that the examples join, with a discoverd on its gateway's port 53."""

    compose: Compose
    network: str
    address: str
    server: Server
    unique: Callable[[str], str]

    def up(self, example: str, *args: str, project: str = "", **env: str) -> str:
        """Start an example under a project name of its own; that name."""
        project = self.unique(project or example.replace("-", ""))
        variables = {
            "BUSYBOX_IMAGE": self.compose.engine.image,
            "DISCOVERY_ADDRESS": self.address,
            "DISCOVERY_NETWORK": self.network,
        }
        self.compose.up(project, EXAMPLES / example / "compose.yml", *args, env=variables | env)
        return project

    def sh(self, project: str, service: str, script: str) -> str:
        """What a shell command says inside of a service's container; nothing where it fails."""
        return self.compose.run(project, "exec", "-T", service, "sh", "-c", script, check=False)

    def wait_said(self, project: str, service: str, script: str, expected: str) -> str:
        def message() -> str:
            now = self.sh(project, service, script)
            return f"{script!r} says {expected!r}, now {now}\n{self.server.log_text}"

        said: list[str] = []

        def right() -> bool:
            said[:] = [self.sh(project, service, script)]
            return re.search(expected, said[0]) is not None

        until(right, message=message)
        return said[0]

    def follow(self, example: str, project: str, name: str) -> list[str]:
        """Run its README's lines with ``docker compose exec``; ``name`` is the project's there."""
        text = (EXAMPLES / example / "README.md").read_text()
        found = re.findall(r"^docker compose (exec .*)$", text, re.MULTILINE)
        assert found
        given = [shlex.split(each.replace(f".{name}", f".{project}")) for each in found]
        return [self.compose.run(project, "exec", "-T", *words[1:]) for words in given]

    def address_of(self, project: str, service: str, network: str) -> str:
        (container,) = self.compose.containers(project, service)
        (seen,) = self.compose.engine.inspect(container)
        found: str = seen["NetworkSettings"]["Networks"][network]["IPAddress"]
        return found

    def processes(self, container: str) -> set[str]:
        """The ids of all that runs in a container."""
        return {
            line.split()[0]
            for line in self.compose.engine.docker("top", container, "-eo", "pid").splitlines()
        }

    def log(self, container: str) -> str:
        return self.server.log_text + self.compose.engine.docker("logs", container, check=False)

    def dig(self, project: str, service: str, name: str) -> Reply:
        """discoverd asked by a service's container, past Docker's own resolver."""
        (container,) = self.compose.containers(project, service)
        pid = self.compose.engine.docker("inspect", "--format", "{{.State.Pid}}", container)
        return ask(("nsenter", f"--net=/proc/{pid}/ns/net"), self.address, 53, name, "A")


@pytest.fixture
def hub(
    compose: Compose, containers: Containers, discoverd: Callable[..., Server], unique: Callable[[str], str]
) -> Hub:
    if not isinstance(compose.engine, HostedEngine):
        pytest.skip("discoverd on a gateway needs an engine on this machine")
    network = unique("discovery")
    containers.network(network)
    form = "{{(index .IPAM.Config 0).Gateway}}"
    gateway = compose.engine.docker("network", "inspect", "--format", form, network)
    server = discoverd(docker=compose.engine, listen=f"{gateway}:53")
    return Hub(compose, network, gateway, server, unique)


def test_flask_redis(hub: Hub) -> None:
    engine = hub.compose.engine
    with or_left_out():
        python = python_image(engine, EXAMPLES / "flask-redis" / "requirements.txt")
        command = 'CMD ["redis-server", "--protected-mode", "no"]'
        redis = program_image(engine, "redis-server", "redis-server", command)
    project = hub.up("flask-redis", "--build", project="counter", PYTHON_IMAGE=python, REDIS_IMAGE=redis)
    other = hub.up("two-projects")
    get = f"wget -qO- http://web.{project}.docker:5000"
    hub.wait_said(other, "app", get, "I have been seen 1 times")
    assert hub.sh(other, "app", get) == "I have been seen 2 times."
    (said,) = hub.follow("flask-redis", project, "counter")
    assert "I have been seen 3 times" in said
    # the same redis by the other name, from within
    program = "import redis; print(redis.Redis('redis_1').get('hits'))"
    assert hub.sh(project, "web", f'python -c "{program}"') == "b'3'"
    own = {hub.address_of(project, "redis", f"{project}_default")}
    assert hub.dig(project, "web", "redis_1").addresses == own
    assert hub.dig(project, "web", "redis.docker").addresses == own
    assert not hub.dig(other, "app", "redis_1").addresses
    # others are told where it is, and Docker keeps them out of its network
    assert hub.dig(other, "app", f"redis.{project}.docker").addresses == own
    assert hub.sh(other, "app", f"nc -z -w 1 redis.{project}.docker 6379 && echo open") == ""


def test_echo_link(hub: Hub) -> None:
    project, other = hub.up("echo-link"), hub.up("two-projects")
    hub.wait_said(project, "client", "echo hello | nc -w 1 talkto 7", "^hello$")
    own = {hub.address_of(project, "echo-server", f"{project}_default")}
    for name in ("talkto", "talkto.docker"):
        assert hub.dig(project, "client", name).addresses == own
        assert not hub.dig(other, "app", name).addresses, "a link is its client's"
    echoed, found = hub.follow("echo-link", project, "echo")
    assert echoed == "hello"
    assert own <= set(found.split())


def test_two_containers(hub: Hub) -> None:
    project = hub.up("two-containers")
    for here, there in (("one", "two"), ("two", "one")):
        own = hub.address_of(project, there, f"{project}_default")
        for name in (f"{there}.docker", f"{there}.{project}.docker", f"{there}.{project}_default.docker"):
            hub.wait_said(project, here, f"ping -c 1 {name}", re.escape(f"({own})"))
    assert len(hub.follow("two-containers", project, "pair")) == 3


def test_two_containers_without_compose(hub: Hub) -> None:
    engine = hub.compose.engine
    text = (EXAMPLES / "two-containers" / "README.md").read_text()
    network, alice = hub.unique("lonely"), hub.unique("alice")
    create, run, ping = re.findall(r"^docker ((?:network|run) .*)$", text, re.MULTILINE)

    def follow(command: str) -> str:
        for old, new in (("lonely", network), ("alice", alice), ("172.17.0.1", hub.address)):
            command = command.replace(old, new)
        return engine.docker(*shlex.split(command.replace("busybox:1.37", engine.image)))

    try:
        follow(create)
        follow(run)
        (seen,) = engine.inspect(alice)
        own = seen["NetworkSettings"]["Networks"][network]["IPAddress"]
        until(lambda: f"({own})" in follow(ping), message=lambda: follow(ping))
    finally:
        engine.docker("rm", "--force", alice, check=False)
        engine.docker("network", "rm", network, check=False)


def test_two_projects(hub: Hub) -> None:
    red, blue = hub.up("two-projects", project="red"), hub.up("two-projects", project="blue")
    for own, other in ((red, blue), (blue, red)):
        get = "wget -qO- http://{}:5432".format
        for name, answer in (("db", own), (f"db.{own}", own), (f"db.{other}", other)):
            hub.wait_said(own, "app", get(f"{name}.docker"), f"^this is db of {answer}$")
    hub.compose.run(red, "stop", "--timeout", "1", "db")
    until(lambda: hub.dig(red, "app", f"db.{red}.docker").nodata, message="nobody else's db is red's")
    hub.wait_said(blue, "app", "wget -qO- http://db.docker:5432", f"^this is db of {blue}$")


def visited(port: int, count: int) -> set[str]:
    """Who answers so many requests; one that fails fails the test."""
    found = set()
    for _ in range(count):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
            found.add(reply.read().decode().strip())
    return found


@contextmanager
def visiting(port: int) -> Generator[None]:
    """One request after the other meanwhile, none of which may fail."""
    over = threading.Event()

    def visit() -> int:
        count = 0
        while not over.is_set():
            count += len(visited(port, 1))
        return count

    with ThreadPoolExecutor(1) as pool:
        visits = pool.submit(visit)
        try:
            yield
        finally:
            over.set()
        assert visits.result(60)


@pytest.mark.parametrize(("example", "command"), [("nginx", "nginx"), ("haproxy", "haproxy")])
def test_a_proxy_follows_scaling(hub: Hub, example: str, command: str) -> None:
    engine = hub.compose.engine
    with or_left_out():
        image = program_image(engine, command, PACKAGES[command], COMMANDS[command])
    port = free_port()
    variable = {f"{command.upper()}_IMAGE": image, "PORT": str(port)}
    project = hub.up(example, **variable)
    (proxy,) = hub.compose.containers(project, "proxy")

    def live() -> set[str]:
        """The host names of what runs."""
        return {each[:12] for each in hub.compose.containers(project, "web")}

    def served() -> bool:
        try:
            return visited(port, 12) == live()
        except OSError:
            return False

    until(served, timeout=60, message=lambda: f"{live()} are reached\n{hub.log(proxy)}", interval=0.2)
    workers = hub.processes(proxy)
    for count in (4, 1, 2):
        with visiting(port):
            hub.compose.scale(project, web=count)
        assert len(live()) == count
        until(served, timeout=60, message=lambda: f"{live()} are reached\n{hub.log(proxy)}", interval=0.2)
        assert visited(port, 20) == live()
    assert hub.processes(proxy) == workers, "nobody reloaded it"
