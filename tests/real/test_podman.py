"""Podman's Docker-compatible service as an engine: Debian's own package, its real containers and networks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.place import Place, containers_of, wait
from tests.real.podman import PodmanService, podman_host
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.server import Server
    from tests.real.session import Session

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

PORT = 1053
STUBBORN = ("sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done")


@pytest.fixture(scope="module")
def place(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    with ExitStack() as stack:
        with or_left_out():
            engine = podman_host(session, 5)
        stack.callback(engine.close)
        place = Place(engine, tmp_path_factory.mktemp("podman"), stack)
        daemon = place.daemon
        assert isinstance(daemon, PodmanService)
        for network in ("red", "blue"):
            daemon.network(network)
        yield place


@pytest.fixture(scope="module")
def server(place: Place) -> Server:
    made = place.serve(listen=f":{PORT}", config=f'host_address = "{place.address}"\n')
    until(lambda: place.host("nobody.docker", port=PORT).status == "NXDOMAIN", message=lambda: made.log_text)
    return made


@pytest.fixture
def made(place: Place, server: Server) -> Generator[Containers]:
    del server
    with containers_of(place) as made:
        yield made


def test_a_life(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    """Born, killed, started, paused, renamed, removed: each is in the answers without a resync."""
    name, other = unique("life"), unique("renamed")
    docker = place.engine.docker

    def mine() -> set[str]:
        return {place.ip(name, "red")}

    def served(wanted: set[str], asked: str = "") -> None:
        wait(lambda: place.host(f"{asked or name}.docker", port=PORT), wanted)

    key = made.run(
        name, "--network", "red", "--network-alias", f"{name}-alias", "--label", "discoverd.tags=v1"
    )
    for asked in (name, f"{name}-alias", key[:12], f"{name}.red", f"v1.{name}", f"all.{name}"):
        served(mine(), asked)
    docker("kill", name)
    served(set())
    assert place.host(f"{name}.docker", port=PORT).nodata
    docker("start", name)
    served(mine())
    docker("pause", name)
    served(set())
    docker("unpause", name)
    served(mine())
    docker("restart", "--time", "1", name)
    served(mine())
    docker("rename", name, other)
    wait(lambda: place.host(f"{other}.docker", port=PORT), {place.ip(other, "red")})
    docker("rm", "--force", other)
    served(set(), other)


def test_who_asks_decides(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    service, one, two = unique("web"), unique("one"), unique("two")
    label = ("--label", f"discoverd.service={service}")
    made.run(one, "--network", "red", *label)
    made.run(two, "--network", "blue", *label)
    red, blue = place.ip(one, "red"), place.ip(two, "blue")
    name = f"{service}.docker"
    wait(lambda: place.host(name, port=PORT), {red, blue})
    assert place.inside(one, name, server=place.gateway("red"), port=PORT).addresses == {red}
    assert place.inside(two, name, server=place.gateway("blue"), port=PORT).addresses == {blue}
    # beyond the host only what is published
    assert place.lan(name, port=PORT).nodata
    out = unique("out")
    made.run(out, "--network", "red", "--publish", "8088:80")
    wait(lambda: place.lan(f"{out}.docker", port=PORT), {place.address})
    (record,) = place.lan(f"{out}.docker", "SRV", port=PORT).answer
    assert record.data.split()[2] == "8088"
    # the host's own network stack, and another container's
    host, guest = unique("host"), unique("guest")
    made.run(host, "--network", "host")
    made.run(guest, "--network", f"container:{one}")
    wait(lambda: place.host(f"{host}.docker", port=PORT), {"127.0.0.1"})
    wait(
        lambda: place.inside(one, f"{host}.docker", server=place.gateway("red"), port=PORT),
        {place.gateway("red")},
    )
    wait(lambda: place.host(f"{guest}.docker", port=PORT), {red})


def test_stops_are_seen_at_their_end(place: Place, made: Containers, unique: Callable[[str], str]) -> None:
    """Podman tells of no stop signal, and of a kill not which: nothing leaves before its end."""
    service = unique("svc")
    names = [unique("stub") for _ in range(2)]
    for name in names:
        made.run(name, "--network", "red", "--label", f"discoverd.service={service}", command=STUBBORN)
    both = {place.ip(name, "red") for name in names}
    look = f"{service}.docker"
    wait(lambda: place.host(look, port=PORT), both)
    place.engine.docker("kill", "--signal", "HUP", names[0])
    # the stream is in order: what comes later is seen only when the signal was
    place.engine.docker("pause", names[1])
    wait(lambda: place.host(look, port=PORT), {place.ip(names[0], "red")})
    place.engine.docker("unpause", names[1])
    wait(lambda: place.host(look, port=PORT), both)
    place.engine.docker("stop", "--time", "1", names[0])
    wait(lambda: place.host(look, port=PORT), {place.ip(names[1], "red")})


def test_its_service_ends_and_comes_back(
    place: Place, made: Containers, unique: Callable[[str], str]
) -> None:
    """Its containers need no service: they run on."""
    stays, late = unique("stays"), unique("late")
    made.run(stays, "--network", "red", "--label", "discoverd.ttl=300")
    mine = {place.ip(stays, "red")}
    wait(lambda: place.host(f"{stays}.docker", port=PORT), mine)
    place.engine.stop()
    until(lambda: {r.ttl for r in place.host(f"{stays}.docker", port=PORT).answer} == {5})
    assert place.host(f"{stays}.docker", port=PORT).addresses == mine
    place.engine.start()
    made.run(late, "--network", "red")
    wait(lambda: place.host(f"{late}.docker", port=PORT), {place.ip(late, "red")})
    assert place.host(f"{stays}.docker", port=PORT).addresses == mine
