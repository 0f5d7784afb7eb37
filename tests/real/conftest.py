"""Fixtures that are real: engines, Compose projects, Consul agents, and discoverd as a process.

Where one cannot be had, the tests that ask for it are skipped with the reason; with ``CI`` set
they fail instead, so that a pipeline that tests nothing is not green.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.real import engine as engines
from tests.real.compose import Compose
from tests.real.consul import ConsulAgent, ConsulCluster
from tests.real.debian import UnavailableError, need
from tests.real.engine import Engine, HostedEngine
from tests.real.server import Server
from tests.real.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

#: Seconds for one test with its fixtures: the first may install and start an engine.
TIMEOUT = 600
DOCKER = {"engine", "engine_host", "own_engine", "compose", "containers"}
CONSUL = {"consul_agent", "consul_agents", "consul_cluster"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the real thing they ask for."""
    for item in items:
        wanted = set(getattr(item, "fixturenames", ()))
        if wanted & (DOCKER | CONSUL):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
        if wanted & DOCKER:
            item.add_marker(pytest.mark.docker)
        if wanted & CONSUL:
            item.add_marker(pytest.mark.consul)


@contextmanager
def or_left_out() -> Generator[None]:
    """What cannot be had on this machine skips the test, and fails it with ``CI`` set."""
    try:
        yield
    except UnavailableError as error:
        reason = str(error)
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, so this may not be skipped: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def session() -> Generator[Session]:
    """This run: its id, its label, its folder; the end of it leaves the machine as it was."""
    session = Session()
    yield session
    session.close()


@pytest.fixture(scope="session")
def engine(session: Session) -> Generator[Engine]:
    """A real Docker Engine that all tests share: never stop it, and touch only what you made in it."""
    with or_left_out():
        found = engines.find(session)
    yield found
    found.remove_all()
    if isinstance(found, HostedEngine):
        found.close()


@pytest.fixture
def engine_host(session: Session) -> Generator[Callable[..., HostedEngine]]:
    """A factory of further Docker hosts, ``engine_host(name, number, *options)``, both optional.

    They are yours to stop, kill and freeze. ``number`` tells hosts that run at a time apart, 1 to 9.
    """
    numbers = count(1)

    def start(name: str = "", number: int = 0, *options: str) -> HostedEngine:
        number = number or next(numbers)
        with or_left_out():
            host = engines.another(session, name or f"h{number}", number, *options)
        stack.callback(host.close)
        return host

    with ExitStack() as stack:
        yield start


@pytest.fixture
def own_engine(engine_host: Callable[..., HostedEngine]) -> HostedEngine:
    """One engine of this test's own."""
    return engine_host()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name of this test's own: ``unique("shop")`` is ``shop`` and six hex digits."""
    return lambda name: f"{name}{secrets.token_hex(3)}"


class Containers:
    """Containers and networks of one test on one engine; all are removed at its end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._containers: list[str] = []
        self._networks: list[str] = []

    def run(self, name: str, *options: str, command: Iterable[str] = (), image: str = "") -> str:
        """Start one that waits, or runs ``command``; its full id."""
        self._containers.append(name)
        made = self._containers[-1] = self.engine.run(name, *options, command=tuple(command), image=image)
        return made

    def network(self, name: str, *options: str) -> str:
        made = self.engine.docker("network", "create", "--label", self.engine.session.label, *options, name)
        self._networks.append(made)
        return made

    def close(self) -> None:
        if self._containers:
            self.engine.docker("rm", "--force", "--volumes", *self._containers, check=False)
        if self._networks:
            self.engine.docker("network", "rm", *self._networks, check=False)


@pytest.fixture
def containers(engine: Engine) -> Generator[Containers]:
    """Containers of this test in the shared engine."""
    made = Containers(engine)
    yield made
    made.close()


@pytest.fixture
def compose(engine: Engine, tmp_path: Path) -> Generator[Compose]:
    """Compose projects of this test in the shared engine."""
    with or_left_out():
        made = Compose(engine, tmp_path)
    yield made
    made.close()


@pytest.fixture
def consul_agent(session: Session) -> Generator[ConsulAgent]:
    """A dev agent, started: ``.url``, ``.dns_port``, ``.api``; yours to stop and start again."""
    with or_left_out():
        agent = ConsulAgent(session.root / f"consul-{secrets.token_hex(3)}", "dev", dev=True)
    agent.start()
    yield agent
    agent.kill()


@pytest.fixture
def consul_agents(session: Session) -> Generator[Callable[..., ConsulAgent]]:
    """A factory of agents, ``consul_agents(name, config, dev=True)``: made, and yours to start."""
    agents: list[ConsulAgent] = []

    def make(name: str = "dev", config: dict[str, Any] | None = None, *, dev: bool = True) -> ConsulAgent:
        with or_left_out():
            agent = ConsulAgent(session.root / f"consul-{secrets.token_hex(3)}", name, config, dev=dev)
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        agent.kill()


@pytest.fixture
def consul_cluster(session: Session) -> Generator[Callable[[], ConsulCluster]]:
    """A factory of clusters: three servers and a client agent, with a leader."""

    def start() -> ConsulCluster:
        with or_left_out():
            cluster = ConsulCluster(session.root / f"consul-{secrets.token_hex(3)}")
        stack.callback(cluster.close)
        cluster.start()
        return cluster

    with ExitStack() as stack:
        yield start


@pytest.fixture
def discoverd(tmp_path: Path) -> Generator[Callable[..., Server]]:
    """A factory of discoverd processes, ``discoverd(*flags, docker=engine, config="...", ...)``.

    ``docker`` is an engine, its URL, or several of them; without it no engine is watched. It
    returns once the sockets are bound. A process that leaves a traceback fails the test.
    """
    with or_left_out():
        need("dig", "bind9-dnsutils")
    numbers = count()

    def start(*flags: str, docker: Engine | str | Iterable[Engine | str] = (), **options: Any) -> Server:
        sources = [docker] if isinstance(docker, (Engine, str)) else list(docker)
        urls = [each.url if isinstance(each, Engine) else each for each in sources]
        named = [word for url in urls for word in ("--docker", url)]
        server = Server(tmp_path / f"discoverd{next(numbers)}", *named, *flags, **options)
        stack.callback(server.close)
        server.wait_listening()
        return server

    with ExitStack() as stack:
        yield start
