"""The shipped image, as the shipped compose.example.yml runs it beside another project of a real engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.real.compose import group_of, socket_of
from tests.real.confined import Confined
from tests.real.conftest import or_left_out
from tests.real.debian import REPO
from tests.real.dig import dig
from tests.real.engine import HostedEngine
from tests.real.images import bases, provide
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.real.compose import Compose
    from tests.real.engine import Engine

DISCOVERY = REPO / "compose.example.yml"
SHOP = REPO / "examples" / "shop.yml"
IMAGE = "discoverd"
ADDRESSES = "import socket, json; print(json.dumps(socket.gethostbyname_ex({name!r})[2]))"


@dataclass
class Sidecar:
    """The two projects, up: ``project`` with discoverd and a client, ``shop`` with two ``web``."""

    compose: Compose
    project: str
    shop: str
    #: discoverd's own, which its clients have as their name server.
    address: str

    @property
    def engine(self) -> Engine:
        return self.compose.engine

    @property
    def discoverd(self) -> str:
        (found,) = self.compose.containers(self.project, "discoverd")
        return found

    def truth(self, service: str = "web") -> set[str]:
        """What the client can reach: the other project's containers, on the network that it shares."""
        found = self.engine.inspect(*self.compose.containers(self.shop, service))
        return {each["NetworkSettings"]["Networks"]["discovery"]["IPAddress"] for each in found} - {""}

    def resolved(self, name: str) -> set[str]:
        """What the C library of the client resolves a name to; nothing when it cannot."""
        said = self.compose.run(
            self.project,
            "exec",
            "--no-TTY",
            "client",
            "python",
            "-c",
            ADDRESSES.format(name=name),
            check=False,
        )
        return set(json.loads(said or "[]"))

    def log(self) -> str:
        return self.compose.run(self.project, "logs", "discoverd")


def images(*files: Path) -> list[str]:
    """The images that the shipped files name and do not build."""
    found = [*bases((REPO / "Dockerfile").read_text())]
    for file in files:
        for line in file.read_text().splitlines():
            key, _, value = line.strip().partition(": ")
            # ${CLIENT_IMAGE:-python:3.13-slim}
            name = value.partition(":-")[2].rstrip("}") if value.startswith("${") else value
            if key == "image" and name != IMAGE:
                found.append(name)
    return found


@pytest.fixture
def sidecar(compose: Compose, unique: Callable[[str], str]) -> Generator[Sidecar]:
    engine = compose.engine
    with or_left_out():
        provide(engine, *images(DISCOVERY, SHOP))
    project, shop = unique("discovery"), unique("shop")
    network = engine.spare_network()
    env = {"DISCOVERY_ADDRESS": f"{network}.53", "DISCOVERY_SUBNET": f"{network}.0/24"}
    env |= socket_of(engine) | group_of(engine)
    # The file names the image that it builds: one of that name may be there, for other uses than tests.
    kept = f"discoverd-test-kept:{engine.session.id}"
    if had := engine.has_image(IMAGE):
        engine.docker("tag", IMAGE, kept)
    compose.up(project, DISCOVERY, "--build", env=env)
    compose.up(shop, SHOP)
    yield Sidecar(compose, project, shop, f"{network}.53")
    compose.down(shop)  # first, as it is on the other's network
    compose.down(project)
    engine.docker("rmi", IMAGE, check=False)  # some versions of Compose have removed it by now
    if had:
        engine.docker("tag", kept, IMAGE)
        engine.docker("rmi", kept)


def test_a_client_resolves_a_service_of_another_project(sidecar: Sidecar) -> None:
    engine, web = sidecar.engine, f"web.{sidecar.shop}.docker"
    assert len(sidecar.truth()) == 2
    until(
        lambda: sidecar.resolved(web) == sidecar.truth(),
        message=lambda: f"{web} is {sidecar.truth()}, now {sidecar.resolved(web)}\n{sidecar.log()}",
    )
    for name in ("web.docker", "web", "web.discovery.docker"):
        assert sidecar.truth() <= sidecar.resolved(name), name
    assert len(sidecar.resolved(f"2.web.{sidecar.shop}.docker")) == 1
    assert sidecar.resolved(f"no-such.{sidecar.shop}.docker") == set()

    sidecar.compose.scale(sidecar.shop, web=3)
    assert len(sidecar.truth()) == 3
    until(
        lambda: sidecar.resolved(web) == sidecar.truth(),
        message=lambda: f"{web} is {sidecar.truth()}, now {sidecar.resolved(web)}\n{sidecar.log()}",
    )

    # A client without the C library, and one that sees the flags.
    options = ("--rm", "--network", "discovery", "--dns", sidecar.address, engine.image)
    said = engine.docker("run", *options, "nslookup", web)
    assert all(address in said for address in sidecar.truth()), said
    if isinstance(engine, HostedEngine):  # it shares this machine's network
        reply = dig(sidecar.address, 53, web)
        assert reply.addresses == sidecar.truth()
        assert "aa" in reply.flags
        assert dig(sidecar.address, 53, f"no-such.{sidecar.shop}.docker").nxdomain


def test_the_image_is_healthy_not_root_and_ends_when_told(sidecar: Sidecar) -> None:
    engine = sidecar.engine
    (seen,) = engine.inspect(sidecar.discoverd)
    # The client depends on it being healthy, so it was when "up" came back.
    assert seen["State"]["Health"]["Status"] == "healthy"
    assert seen["Config"]["User"].split(":")[0] not in {"", "0", "root"}
    _, *processes = engine.docker("top", sidecar.discoverd, "-eo", "pid,uid").splitlines()
    assert processes
    assert "0" not in {line.split()[1] for line in processes}

    # No capability, no way to one, Docker's filter of system calls, and nothing to write to but its volume.
    assert Confined.of(engine, sidecar.discoverd) == Confined("0" * 16, f"{1 << 6:016x}", True, True, True)

    sidecar.compose.run(sidecar.project, "stop", "discoverd")
    (seen,) = engine.inspect(sidecar.discoverd)
    assert seen["State"]["ExitCode"] == 0, sidecar.log()
    assert "Traceback" not in sidecar.log()
