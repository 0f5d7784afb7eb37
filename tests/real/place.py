"""A whole Docker host of a test's own with discoverd on it, asked from every side.

The host is a network namespace with an engine; discoverd listens there on both wildcards, port 53.
So this machine is a client beyond the host, and containers have discoverd as their real name server.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.real import engine as engines
from tests.real.conftest import Containers, or_left_out
from tests.real.debian import need
from tests.real.dig import OUTPUT, Reply, parse
from tests.real.server import Server
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from tests.real.dockerd import Dockerd
    from tests.real.engine import HostedEngine
    from tests.real.session import Session

#: Docker's own resolver inside every container of a user-defined network.
EMBEDDED = "127.0.0.11"


class Place:
    """The host's ``engine``, and ``address``, what it is reached at from here."""

    def __init__(self, engine: HostedEngine, folder: Path, stack: ExitStack) -> None:
        self.engine = engine
        self._folder, self._stack = folder, stack
        self._servers = 0

    @property
    def daemon(self) -> Dockerd:
        return self.engine.daemon

    @property
    def address(self) -> str:
        assert self.daemon.namespace
        return self.daemon.namespace.address

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command to run it on the host."""
        assert self.daemon.namespace
        return tuple(self.daemon.namespace.enter)

    def serve(
        self, *flags: str, listen: str = ":53", http: str = "off", config: str = "", inside: str = ""
    ) -> Server:
        """One more discoverd that watches the engine: on the host, or with the network stack of a container.

        ``config`` continues the engine's table in the configuration file.
        """
        self._servers += 1
        server = Server(
            self._folder / f"discoverd{self._servers}",
            *("--docker", self.engine.url, *flags),
            listen=listen,
            http=http,
            config=f'[[docker]]\nurl = "{self.engine.url}"\n{config}',
            prefix=self.enter_container(inside) if inside else self.enter,
        )
        self._stack.callback(server.close)
        server.wait_listening()
        return server

    def enter_container(self, name: str) -> tuple[str, ...]:
        """What to put before a command to run it with a container's network stack."""
        pid = self.engine.docker("inspect", "--format", "{{.State.Pid}}", name)
        assert int(pid), f"{name} does not run"
        return (need("nsenter", "util-linux"), f"--net=/proc/{pid}/ns/net")

    # -- asking -----------------------------------------------------------------------------

    def inside(
        self,
        container: str,
        name: str,
        rtype: str = "A",
        *options: str,
        server: str = EMBEDDED,
        port: int = 53,
    ) -> Reply:
        """dig with a container's network stack: through Docker's own resolver unless ``server`` is given."""
        return ask(self.enter_container(container), server, port, name, rtype, *options)

    def host(
        self, name: str, rtype: str = "A", *options: str, server: str = "127.0.0.1", port: int = 53
    ) -> Reply:
        """dig on the host itself."""
        return ask(self.enter, server, port, name, rtype, *options)

    def lan(self, name: str, rtype: str = "A", *options: str, port: int = 53) -> Reply:
        """dig from beyond the host."""
        return ask((), self.address, port, name, rtype, *options)

    # -- the truth --------------------------------------------------------------------------

    def ip(self, container: str, network: str = "bridge", key: str = "IPAddress") -> str:
        """A container's address on a network, as the engine has it."""
        (found,) = self.engine.inspect(container)
        address: str = found["NetworkSettings"]["Networks"][network][key]
        assert address, f"{container} has no address on {network}"
        return address

    def gateway(self, network: str, version: int = 4) -> str:
        """The host's own address on a network."""
        form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
        given = self.engine.docker("network", "inspect", "--format", form, network).split()
        return next(each.partition("/")[0] for each in given if (":" in each) == (version == 6))


def ask(prefix: Iterable[str], server: str, port: int, name: str, rtype: str, *options: str) -> Reply:
    """One question with the real dig, run behind ``prefix``; it waits at most 5 seconds."""
    command = [*prefix, need("dig", "bind9-dnsutils"), *OUTPUT, "+tries=1", "+time=5", f"@{server}"]
    done = subprocess.run(
        [*command, "-p", str(port), *options, "-q", name, "-t", rtype],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return parse(done.stdout + done.stderr)


def wait(look: Callable[[], Reply], addresses: set[str], timeout: float = 30.0) -> Reply:
    """Until ``look`` gives exactly these addresses; the reply that does."""
    seen: list[Reply] = []

    def right() -> bool:
        seen[:] = [look()]
        return seen[0].addresses == addresses and seen[0].status == "NOERROR"

    until(right, timeout=timeout, message=lambda: f"the answer is {sorted(addresses)}, it is\n{seen[0].text}")
    return seen[0]


@contextmanager
def docker_host(session: Session, folder: Path, number: int) -> Generator[Place]:
    """A host with its engine, and with a discoverd on port 53 of all its addresses."""
    with ExitStack() as stack:
        with or_left_out():
            engine = engines.another(session, f"place{number}", number)
        stack.callback(engine.close)
        place = Place(engine, folder, stack)
        server = place.serve()
        until(lambda: place.host("nobody.docker").status == "NXDOMAIN", message=lambda: server.log_text)
        yield place


@contextmanager
def containers_of(place: Place) -> Generator[Containers]:
    """Containers of one test on that host, which have discoverd as their name server."""
    made = Containers(place.engine)
    try:
        yield made
    finally:
        made.close()
